package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
)

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, ok := strings.Cut(string(text), "model name")
	if !ok {
		return runtime.GOARCH
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(strings.Trim(line, "\t :")), " ")
}

func kernel() string {
	out, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return runtime.GOOS
	}
	return strings.TrimSpace(string(out))
}

// versions returns the versions of the SDKs.
func versions() string {
	text := "aws-sdk-go-v2 unknown"
	const sdk = "github.com/aws/aws-sdk-go-v2"
	if out, err := exec.Command("go", "list", "-m", sdk, sdk+"/service/kms").Output(); err == nil {
		lines := strings.ReplaceAll(strings.TrimSpace(string(out)), "github.com/aws/", "")
		text = strings.Join(strings.Split(lines, "\n"), ", ")
	}
	const script = "import boto3; print('boto3', boto3.__version__)"
	if out, err := exec.Command("python3", "-c", script).Output(); err == nil {
		text += ", " + strings.TrimSpace(string(out))
	}
	return text
}

// commit returns the commit of the working tree, or "unknown".
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
