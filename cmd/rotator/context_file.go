package main

import (
	"errors"

	"rotator/internal/ciphertext"
	"rotator/internal/config"
)

// readContexts reads the context file of a target into named. Each problem of the file is a
// problem of the job file, at the line that names the context file. Its text has the line in
// the context file.
func readContexts(job *config.Job, field string, named *ciphertext.ContextFile) []config.Problem {
	if named == nil {
		return nil
	}
	contexts, err := config.LoadContexts(named.File)
	named.Contexts = contexts
	if err == nil {
		return nil
	}
	var wrong *config.Problems
	if !errors.As(err, &wrong) {
		return []config.Problem{job.Problem(field+".context_file.path", err.Error())}
	}
	var found []config.Problem
	for _, p := range wrong.List {
		one := config.Problems{File: wrong.File, List: []config.Problem{p}}
		found = append(found, job.Problem(field+".context_file.path", one.Error()))
	}
	return found
}
