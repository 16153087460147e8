package main

import (
	"errors"

	"rotator/internal/ciphertext"
	"rotator/internal/config"
)

// readContexts fills in what the context file of a target says. Whatever is wrong
// with the file is a problem of the job file, at the line that names it, and tells
// the line of the other.
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
