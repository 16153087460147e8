package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/artifact"
	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/config"
	"rotator/internal/fastkms"
	"rotator/internal/flowcontrol"
	"rotator/internal/plural"
	"rotator/internal/reencrypt"
	"rotator/internal/report/auditlog"
	"rotator/internal/retry"
	"rotator/internal/rotate"
	"rotator/internal/scan"
	"rotator/internal/scan/dynamoscan"
	"rotator/internal/scan/filescan"
	"rotator/internal/scan/s3scan"
)

// source is a source of items of any kind: a table, a bucket or a directory.
type source interface {
	rotate.Lister
	rotate.Writer
	// Batch returns the maximum number of changes in one call of Replace.
	Batch() int
	// Check returns an error if the target cannot be used. It does not write.
	Check(ctx context.Context) error
	// Notes returns facts about the target for the report.
	Notes() []string
}

// boundTarget is a target of the job file with its source and format.
type boundTarget struct {
	field  string // "targets[0]"
	name   string
	kind   string // the field of its kind: "s3"
	source source
	format ciphertext.Format
	where  checkpoint.Location
	own    *ownItems
	// partial reports whether rows are read without the attributes that format does not
	// need.
	partial bool
}

// wiring holds the keys, clients and targets of a job. All of them have been checked.
type wiring struct {
	job    *config.Job
	keys   reencrypt.Keys
	kms    *reencrypt.KMS
	client *kms.Client
	rate   float64 // ReEncrypt requests per second
	// rateNote names the quota from which the rate was calculated. It is "" without one.
	rateNote string
	// limiter limits all ReEncrypt requests of the process. permits renews the permits of
	// requests that could not be sent at once.
	limiter *flowcontrol.Limiter
	permits fastkms.Permits
	targets []boundTarget
	notes   []string
	under   map[string]string // ARNs of the keys that accept rules name
	sdkOnly bool              // the SDK sends all requests itself
	// warn logs warnings that the user must see before anything is written.
	warn  func(text string)
	begin fastkms.Begin // of requests to KMS
	// consistent selects strongly consistent reads of tables.
	consistent bool
	// whole selects all attributes of rows and all bodies.
	whole bool
	// readOnly allows disabled source keys.
	readOnly bool
	// unshared is true if a warning has stated that the rate is not divided with runs.
	unshared bool
	account  string // of the credentials; "" if it is unknown
	caller   string // the ARN of the caller; "" if it is unknown
}

// wire builds the clients of a job and checks, in this order, formats, keys,
// permissions and targets. It writes nothing.
func wire(
	ctx context.Context, c *jobFlags, job *config.Job, command string,
) (*wiring, error) {
	templates, err := compileFormats(job) // before any request
	if err != nil {
		return nil, err
	}
	base, err := c.loadAWS(ctx, job.Workers, requestTimeout)
	if err != nil {
		return nil, err
	}
	warn := func(text string) { c.logger.Warn(text) }
	c.outages.SetPatience(patienceBefore(job))
	w := &wiring{
		job:        job,
		sdkOnly:    c.sdk,
		consistent: command == "verify" || c.whole,
		whole:      c.whole,
		begin:      c.beginThrough(),
		readOnly:   readOnly(command),
		warn:       warn,
	}
	if err := w.wireKMS(ctx, c, base, command); err != nil {
		return nil, err
	}
	formats := bindFormats(templates, w.keys)
	if err := symmetric(job, formats, w.keys); err != nil {
		return nil, err
	}
	w.caller, w.account = callerOf(ctx, base)
	budget := scan.NewMemoryBudget(bodiesInWork)
	for i, target := range job.Targets {
		p, err := w.bindTarget(base, target, formats[i], budget)
		p.field = fmt.Sprintf("targets[%d]", i)
		if err != nil {
			return nil, targetProblem(job, p, err)
		}
		if err := w.patiently(ctx, p.name, p.source.Check); err != nil {
			return nil, targetProblem(job, p, err)
		}
		if source, ok := p.source.(owned); ok {
			p.where.Account = source.Account(ctx, accountFor(target, w.account))
		}
		p.where.Reach = reachOf(target, w.account)
		w.targets = append(w.targets, p)
	}
	for _, note := range w.notes {
		c.logger.Warn(note)
	}
	if w.rateNote != "" {
		c.logger.Info(w.rateNote)
		w.notes = append(w.notes, w.rateNote)
	}
	return w, nil
}

// patiently is retry.WithRetry for the time before a pass begins.
func (w *wiring) patiently(
	ctx context.Context, service string, call func(context.Context) error,
) error {
	return retry.WithRetry(ctx, patienceBefore(w.job), service, call)
}

func (w *wiring) wireKMS(
	ctx context.Context, c *jobFlags, base aws.Config, command string,
) error {
	settings := w.job.KMS
	cfg := withTarget(base, settings.Region, settings.Endpoint, settings.RoleARN)
	if cfg.Region == "" {
		return problem(w.job, "kms.region", "no AWS Region is set; set it here, or set AWS_REGION")
	}
	if err := regions(w.job, cfg.Region); err != nil {
		return err
	}
	client, reEncrypt := w.kmsClient(cfg)
	request := reencrypt.KeyRequest{
		Destination:          w.job.Destination.Key,
		DestinationAlgorithm: w.job.Destination.Algorithm,
		Sources:              w.job.Source.Keys,
		SourceAlgorithm:      w.job.Source.Algorithm,
		Any:                  w.job.Source.Any,
		GrantTokens:          w.job.KMS.GrantTokens,
		Mode:                 reencrypt.Mode(w.job.Mode),
		ReadOnly:             w.readOnly,
		ChangesContext:       w.job.ChangesContext() != "",
	}
	err := w.patiently(ctx, "KMS", func(ctx context.Context) (err error) {
		w.keys, err = reencrypt.ResolveKeys(ctx, client, request)
		return err
	})
	if err != nil {
		return keyProblem(w.job, err)
	}
	if err := contexts(w.job, w.keys); err != nil {
		return err
	}
	if err := w.resolveAccepted(ctx, client); err != nil {
		return keyProblem(w.job, err)
	}
	w.wireLimiter(ctx, base)
	w.client = client
	w.kms = reencrypt.NewKMS(reEncrypt, w.keys.Destination, w.job.KMS.GrantTokens)
	err = w.checkAuthorized(ctx, c, command)
	if n := droppedContexts(w.job, w.keys); n > 0 {
		w.notes = append(w.notes, fmt.Sprintf(
			"the encryption %s of %s %s dropped, as the job file confirms: %s is an "+
				"asymmetric key, which does not support an encryption context",
			plural.Form(n, "context", "contexts"), plural.Count(n, "slot"),
			plural.Form(n, "is", "are"), w.keys.Destination.ARN))
	}
	return keyProblem(w.job, err)
}

// regions returns an error if a key ARN is in another Region than the KMS client. DescribeKey
// would report that the key does not exist.
func regions(job *config.Job, region string) error {
	var found []config.Problem
	for field, key := range keyFields(job) {
		parts := strings.SplitN(key, ":", 5)
		if len(parts) == 5 && parts[0] == "arn" && parts[3] != region {
			found = append(found, job.Problem(field, fmt.Sprintf(
				"the key is in %s, but requests to KMS go to %s; set kms.region: %s (ReEncrypt "+
					"works within one Region, so all keys must be in the same Region)",
				parts[3], region, parts[3])))
		}
	}
	return problems(job, found)
}

// symmetric returns an error if a key is asymmetric and the readers of a format call Decrypt as
// for a symmetric key. These readers could not decrypt the ciphertexts after a move.
func symmetric(job *config.Job, formats []*ciphertext.Compiled, keys reencrypt.Keys) error {
	var found []config.Problem
	for i, format := range formats {
		name := format.Symmetric()
		if name != "" &&
			(keys.SourceAlgorithm != reencrypt.Symmetric || !keys.Destination.Symmetric()) {
			found = append(found, job.Problem(fmt.Sprintf("targets[%d].format", i), fmt.Sprintf(
				"readers of format %s support only symmetric keys, and a key of this job is "+
					"asymmetric; use symmetric keys", name)))
		}
	}
	return problems(job, found)
}

// hasContexts reports whether a slot has, or may have, an encryption context.
func hasContexts(job *config.Job) bool {
	return slices.ContainsFunc(job.Targets, func(t config.Target) bool {
		return len(t.Slots) == 0 || slices.ContainsFunc(t.Slots, func(s config.Slot) bool {
			return len(s.Context)+len(s.DestinationContext) > 0
		})
	})
}

func keyFields(job *config.Job) map[string]string {
	fields := map[string]string{"destination.key": job.Destination.Key}
	for i, key := range job.Source.Keys {
		fields[fmt.Sprintf("source.keys[%d]", i)] = key
	}
	return fields
}

// keyProblem adds the line of the job file to a *reencrypt.KeyError. If the job file is wrong, the
// result is a problem of the job file. If the cause is the state of the key or a permission,
// the error keeps its type.
func keyProblem(job *config.Job, err error) error {
	if detail, ok := noEndpoint(err); ok {
		return problem(job, "kms", detail)
	}
	var key *reencrypt.KeyError
	if !errors.As(err, &key) {
		return err
	}
	for field, given := range keyFields(job) {
		if key.Field != "" {
			field = key.Field
		} else if given != key.Given {
			continue
		}
		if key.Wrong {
			return problem(job, field, key.Error())
		}
		line, column := job.At(field)
		return fmt.Errorf("%s:%d:%d: %s: %w", job.File(), line, column, field, err)
	}
	return err
}

// compileFormats compiles the formats of all targets and reads their context files. The error
// has all problems.
func compileFormats(job *config.Job) ([]*ciphertext.Template, error) {
	var templates []*ciphertext.Template
	var found []config.Problem
	for i, target := range job.Targets {
		spec := specOf(target)
		found = append(found, readContexts(job, fmt.Sprintf("targets[%d]", i), spec.ContextFile)...)
		template, err := ciphertext.Compile(spec)
		templates = append(templates, template)
		for _, e := range specErrors(err) {
			found = append(found, job.Problem(fmt.Sprintf("targets[%d].%s", i, e.Field), e.Detail))
		}
	}
	return templates, problems(job, found)
}

// bindFormats returns the formats of all targets for the keys that KMS resolved.
func bindFormats(templates []*ciphertext.Template, keys reencrypt.Keys) []*ciphertext.Compiled {
	bound := ciphertext.Keys{Destination: keys.Destination.ARN, Sources: namesOfSources(keys)}
	var formats []*ciphertext.Compiled
	for _, template := range templates {
		formats = append(formats, template.Bind(bound))
	}
	return formats
}

// namesOfSources returns the names that readers may use for the source keys:
// ARNs, ids, and the aliases of the job file with their ARNs.
func namesOfSources(keys reencrypt.Keys) (names []string) {
	for _, key := range keys.Sources {
		if key.ARN == keys.Destination.ARN {
			continue
		}
		account, id, _ := strings.Cut(key.ARN, ":key/")
		names = append(names, key.ARN, id)
		_, alias, ok := strings.Cut(":"+key.Given, ":alias/")
		if ok {
			names = append(names, "alias/"+alias, account+":alias/"+alias)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// specErrors returns the errors that ciphertext.Compile joined.
func specErrors(err error) (list []*ciphertext.SpecError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			list = append(list, specErrors(e)...)
		}
		return list
	}
	var one *ciphertext.SpecError
	if errors.As(err, &one) {
		list = append(list, one)
	}
	return list
}

func specOf(target config.Target) ciphertext.Spec {
	spec := ciphertext.Spec{
		Format:             target.Format,
		Kind:               ciphertext.Rows,
		Context:            target.Context,
		DestinationContext: target.DestinationContext,
	}
	switch {
	case target.S3 != nil:
		spec.Kind, spec.Container = ciphertext.Objects, target.S3.Bucket
		spec.KeyPattern = target.S3.KeyPattern
	case target.Files != nil:
		spec.Kind, spec.Container = ciphertext.Files, target.Files.Root
		spec.KeyPattern = target.Files.KeyPattern
	case target.DynamoDB != nil:
		spec.Container = target.DynamoDB.Table
		if _, name, ok := strings.Cut(spec.Container, ":table/"); ok { // an ARN
			spec.Container = name
		}
	}
	spec.InstructionSuffix = target.InstructionSuffix
	if f := target.ContextFile; f != nil {
		spec.ContextFile = &ciphertext.ContextFile{File: f.Path, Name: f.Name}
	}
	for _, s := range target.Slots {
		spec.Slots = append(spec.Slots, ciphertext.SlotSpec{
			Path:               s.Path,
			Pattern:            s.Pattern,
			Format:             s.Format,
			Padding:            s.Padding,
			Context:            s.Context,
			DestinationContext: s.DestinationContext,
		})
	}
	return spec
}

// bindTarget returns a target with its source, which is not yet checked. budget limits the
// bodies in memory.
func (w *wiring) bindTarget(
	base aws.Config,
	target config.Target,
	format *ciphertext.Compiled,
	budget *scan.MemoryBudget,
) (boundTarget, error) {
	p := boundTarget{name: target.Name, format: format, own: newOwnItems()}
	switch {
	case target.DynamoDB != nil:
		w.bindTable(&p, base, target, format)
	case target.Files != nil:
		w.bindFiles(&p, base, target, budget)
	default:
		return p, w.bindBucket(&p, base, target, format, budget)
	}
	return p, nil
}

func (w *wiring) bindTable(
	p *boundTarget, base aws.Config, target config.Target, format *ciphertext.Compiled,
) {
	t := target.DynamoDB
	p.kind = "dynamodb"
	p.partial = !format.Whole() && target.Search != config.SearchAll && !w.whole
	cfg := withTarget(base, t.Region, t.Endpoint, t.RoleARN)
	client := tableClient(cfg)
	p.where = locationOf(target, cfg, client.Options().BaseEndpoint)
	p.source = dynamoscan.New(dynamoscan.Config{
		Client:        client,
		Table:         t.Table,
		Segments:      int(t.Segments),
		Consistent:    w.consistent,
		Attributes:    w.attributes(t.Table, format),
		Writes:        format.Writes(),
		AllAttributes: !p.partial,
		PageLimit:     pageItems,
		ReadCapacity:  t.ReadCapacity,
		WriteCapacity: t.WriteCapacity,
		Unbatched:     t.BatchWrites == config.BatchNever,
		SDKOnly:       w.sdkOnly,
		Connections:   w.workers() + min(int(t.Segments), rotate.Scanners),
	})
}

func (w *wiring) bindFiles(
	p *boundTarget, base aws.Config, target config.Target, budget *scan.MemoryBudget,
) {
	t := target.Files
	p.kind, p.where = "files", locationOf(target, base, nil)
	p.source = filescan.New(filescan.Config{
		Root:      t.Root,
		Include:   t.Include,
		Exclude:   t.Exclude,
		KeepMtime: t.Mtime == config.MtimeKeep,
		Own:       ownFiles(w.job),
		OwnerOf:   auditlog.LogOf,
		Memory:    budget,
		PageLimit: pageItems,
	})
}

func (w *wiring) bindBucket(
	p *boundTarget,
	base aws.Config,
	target config.Target,
	format *ciphertext.Compiled,
	budget *scan.MemoryBudget,
) error {
	t := target.S3
	p.kind = "s3"
	region := cmp.Or(t.Region, t.AccessPointRegion())
	client := objectClient(withTarget(base, region, t.Endpoint, t.RoleARN), t.Bucket)
	options := client.Options()
	p.where = locationOf(target, aws.Config{Region: options.Region}, options.BaseEndpoint)
	if detail := noAccessPoint(t, options.BaseEndpoint); detail != "" {
		return &scan.MissingError{Field: "s3.bucket", Detail: detail}
	}
	c := s3scan.Config{
		Client:      client,
		Bucket:      t.Bucket,
		Prefix:      t.Prefix,
		Globs:       scan.NewGlobs(t.Include, t.Exclude),
		AWS:         options.BaseEndpoint == nil,
		Memory:      budget,
		PageLimit:   pageItems,
		Warn:        w.warn,
		Connections: w.workersOfBucket() + 1,
		AllBodies:   w.whole,
	}
	if !format.AlwaysNeedsBody() && target.Search != config.SearchAll {
		c.NeedsBody = func(key string, metadata map[string]string) bool {
			return format.NeedsBody(key, metadata) || len(metadata) == 0 && artifact.Named(key)
		}
	}
	p.source = s3scan.New(c)
	return nil
}

// workersOfBucket returns the number of workers for which each bucket opens connections in
// advance. A bucket that gets more workers, because others are done, opens more connections
// when it needs them. All tables of a Region have the same host and share their connections.
func (w *wiring) workersOfBucket() int {
	buckets := 0
	for _, target := range w.job.Targets {
		if target.S3 != nil {
			buckets++
		}
	}
	return (w.workers() + buckets - 1) / buckets
}

// bodiesInWork is the maximum size, in bytes, of the bodies of all targets that are in memory at
// the same time. With the data that is derived from them, a run uses up to eight times as much.
const bodiesInWork = 256 << 20

// pageItems is the maximum number of items in a page. It bounds the work that is repeated after
// a crash.
const pageItems = 250

// targetProblem returns the error of a target. If the target does not exist as the job file
// describes it, it is a problem of the job file.
func targetProblem(job *config.Job, p boundTarget, err error) error {
	var missing *scan.MissingError
	if errors.As(err, &missing) {
		return problem(job, p.field+"."+missing.Field, missing.Detail)
	}
	if detail, ok := noEndpoint(err); ok {
		return problem(job, p.field+"."+p.kind, detail)
	}
	return fmt.Errorf("check target %s: %w", p.name, err)
}

// problem returns a *config.Problems with one problem of the job file.
func problem(job *config.Job, field, detail string) error {
	return problems(job, []config.Problem{job.Problem(field, detail)})
}

func problems(job *config.Job, list []config.Problem) error {
	if len(list) == 0 {
		return nil
	}
	return &config.Problems{File: job.File(), List: list}
}
