package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// packName is the directory of the evidence pack of the demo.
const packName = "evidence-pack"

// pack writes an evidence pack and checks it as a reader would, with the public key from KMS.
func (d *demo) pack(ctx context.Context) error {
	d.announce("rotator evidence: the pack for the owner of the key, signed by another key in KMS")
	key, err := d.data.createSigningKey(ctx)
	if err != nil {
		return err
	}
	if err := d.rotator.show(ctx, "evidence", "--watch", "--copies", "--sign", key,
		"--out", packName); err != nil {
		return err
	}
	out, err := d.data.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		return fmt.Errorf("read the public key: %w", err)
	}
	public := filepath.Join(d.rotator.dir, "evidence-key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out.PublicKey})
	if err := os.WriteFile(public, text, 0o600); err != nil {
		return err
	}
	return d.checkPack(ctx, public)
}

// signingAlias is the alias of the key that signs evidence packs.
const signingAlias = "alias/evidence"

// createSigningKey creates the key that signs evidence packs, with its alias, and returns its ARN.
func (d *dataset) createSigningKey(ctx context.Context) (arn string, err error) {
	created, err := d.kms.CreateKey(ctx, &kms.CreateKeyInput{
		KeySpec:  types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify,
	})
	if err != nil {
		return "", fmt.Errorf("create the signing key: %w", err)
	}
	alias := signingAlias
	_, err = d.kms.CreateAlias(ctx, &kms.CreateAliasInput{
		AliasName:   &alias,
		TargetKeyId: created.KeyMetadata.KeyId,
	})
	if err != nil {
		return "", fmt.Errorf("create the alias of the signing key: %w", err)
	}
	return *created.KeyMetadata.Arn, nil
}

// checkPack checks the pack with its own script, or with rotator if a tool that the script needs is
// missing.
func (d *demo) checkPack(ctx context.Context, public string) error {
	check := exec.CommandContext(ctx, "sh", filepath.Join(packName, "VERIFY.sh"), public)
	for _, tool := range []string{"sh", "openssl", "jq", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			_, _ = fmt.Fprintf(d.out, "%s is not installed, so rotator checks the pack.\n", tool)
			check = exec.CommandContext(ctx, d.rotator.binary, "evidence", "--check", packName,
				"--key", public)
			break
		}
	}
	d.announce("%s checks the pack", filepath.Base(check.Args[0]))
	check.Dir, check.Stdout, check.Stderr = d.rotator.dir, d.out, d.out
	return expect(check, rotatorDone)
}
