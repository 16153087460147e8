package config

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// checker validates the values of a job and collects problems.
type checker struct {
	job     *Job
	refused map[string]bool // fields that were already reported
	list    []Problem
}

// validate returns all problems that do not depend on services. It skips fields in refused,
// which have no valid value.
func (j *Job) validate(refused map[string]bool) []Problem {
	if refused[""] {
		return nil // the file has no fields
	}
	c := &checker{job: j, refused: refused}
	c.name()
	c.mode()
	c.keys()
	c.kms()
	c.limits()
	c.files()
	c.oneLine("checkpoint", c.job.Checkpoint)
	c.oneLine("audit_log", c.job.AuditLog)
	c.oneLine("evidence", c.job.Evidence)
	c.evidence()
	if len(j.Targets) == 0 {
		c.add("targets", "is missing; add at least one target: - dynamodb: {table: NAME}, "+
			"- s3: {bucket: NAME}, or - files: {root: DIRECTORY}")
	}
	names := map[string]int{}
	for i := range j.Targets {
		c.target(element("targets", i), &j.Targets[i])
		name := j.Targets[i].Name
		if first, ok := names[name]; ok && name != "" {
			c.add(element("targets", i)+".name", fmt.Sprintf(
				"%q is also the name of targets[%d]; use different names", name, first))
			continue
		}
		names[name] = i
	}
	for i := range j.Accept {
		c.accept(element("accept", i), &j.Accept[i])
	}
	for i := range j.Gone {
		c.gone(element("gone", i), &j.Gone[i])
	}
	return c.list
}

func (c *checker) add(field, detail string) {
	for f := field; f != ""; f = parent(f) {
		if c.refused[f] {
			return
		}
	}
	c.list = append(c.list, c.job.Problem(field, detail))
}

var jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (c *checker) name() {
	switch {
	case c.job.Job == "":
		c.add("job", "is missing; set the name of the job, such as job: payments-2026")
	case !jobName.MatchString(c.job.Job):
		c.add("job",
			`must be at most 64 letters, digits, "-", "_" and ".", and start with a letter `+
				"or digit")
	}
}

// mode checks the mode. Whether two names refer to the same key is unknown until KMS resolves
// them.
func (c *checker) mode() {
	switch c.job.Mode {
	case ModeMove:
	case ModeRefresh, ModeContext:
		c.ofOneKey()
	default:
		c.add("mode", fmt.Sprintf(
			"%q is not a mode; modes are move (the default), refresh and context", c.job.Mode))
	}
}

// ofOneKey checks a job of mode refresh or context.
func (c *checker) ofOneKey() {
	mode := c.job.Mode
	if c.job.Source.Any {
		c.add("source.any", fmt.Sprintf("mode: %s applies to one key; set it in both source.keys "+
			"and destination.key", mode))
	}
	if asymmetric(c.job.Source.Algorithm) {
		c.add("source.algorithm",
			fmt.Sprintf("mode: %s applies to symmetric keys; asymmetric keys "+
				"have neither newer key material nor an encryption context", mode))
	}
	changed := c.job.ChangesContext()
	switch {
	case mode == ModeRefresh && changed != "":
		c.add(changed,
			"mode: refresh does not change the encryption context; remove this field, or "+
				"use mode: context, which also moves to the newest key material")
	case mode == ModeContext && changed == "":
		c.add("mode", "no destination_context differs from its context; set destination_context "+
			"where the encryption context must change, or use mode: refresh")
	}
}

// ChangesContext returns the last field that changes the encryption context of ciphertexts,
// or "".
func (j *Job) ChangesContext() string {
	changed := ""
	for i, target := range j.Targets {
		field := element("targets", i)
		if differs(target.Context, target.DestinationContext, target.ContextFile != nil) {
			changed = field + ".destination_context"
		}
		for j, slot := range target.Slots {
			if differs(slot.Context, slot.DestinationContext, false) {
				changed = element(field+".slots", j) + ".destination_context"
			}
		}
	}
	return changed
}

// differs reports whether destination changes the context. listed is true if contexts come
// from a file.
func differs(context, destination map[string]string, listed bool) bool {
	return destination != nil && (listed || !maps.Equal(context, destination))
}

// keys checks the source keys and the destination key.
func (c *checker) keys() {
	source, destination := &c.job.Source, &c.job.Destination
	if destination.Key == "" {
		c.add("destination.key",
			"is missing; set the key to move to, such as key: alias/payments-2026")
	} else {
		c.key("destination.key", destination.Key)
	}
	switch {
	case source.Any && c.job.source.written("source.keys"),
		len(source.Keys) > 0 && c.job.source.written("source.any"):
		c.add("source.any", "cannot be used with source.keys; keep one of them")
	case !source.Any && len(source.Keys) == 0:
		c.add("source", "has no keys; list the keys to move from, such as "+
			"keys: [alias/payments-2019], or set any: true for all keys")
	}
	seen := map[string]bool{}
	for i, key := range source.Keys {
		field := element("source.keys", i)
		if key == "" {
			c.add(field, "is empty; set a key, or remove it")
			continue
		}
		if seen[key] {
			c.add(field, fmt.Sprintf("%q is duplicate; remove it", key))
			continue
		}
		seen[key] = true
		c.key(field, key)
	}
	c.algorithm("destination.algorithm", destination.Algorithm)
	c.algorithm("source.algorithm", source.Algorithm)
	if source.Any && asymmetric(source.Algorithm) {
		c.add("source.any",
			"cannot be used with asymmetric keys, because their ciphertexts do not "+
				"identify the key; list the keys in source.keys")
	}
	c.region()
}

const (
	keyID  = `(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})`
	keyARN = `arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:`
	// longestAlias is the maximum length of the name of an alias in bytes. It is not part of the
	// expressions: an expression that counts to 250 takes a millisecond to compile.
	longestAlias = 250
)

// The forms of a KeyId (API_ReEncrypt, API_CreateAlias). The last group is the name of an alias.
var (
	keyForms = regexp.MustCompile(
		`^((` + keyARN + `key/)?` + keyID + `|(` + keyARN + `)?alias/([A-Za-z0-9/_-]+))$`)
	aliasEnd = regexp.MustCompile(`^[A-Za-z0-9/_-]+$`)
)

func (c *checker) key(field, key string) {
	form := keyForms.FindStringSubmatch(key)
	if form != nil && len(form[len(form)-1]) <= longestAlias {
		return
	}
	detail := fmt.Sprintf(
		"%q is not a key; set a key ID, a key ARN, alias/NAME or an alias ARN", key)
	if len(key) <= longestAlias && aliasEnd.MatchString(key) {
		detail += fmt.Sprintf("; did you mean alias/%s?", key)
	}
	c.add(field, detail)
}

// asymmetricAlgorithms are the algorithms of asymmetric keys (API_ReEncrypt).
func asymmetricAlgorithms() []string {
	return []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"}
}

func asymmetric(algorithm string) bool { return slices.Contains(asymmetricAlgorithms(), algorithm) }

func (c *checker) algorithm(field, algorithm string) {
	known := append([]string{DefaultAlgorithm}, asymmetricAlgorithms()...)
	if !slices.Contains(known, algorithm) {
		c.add(field, fmt.Sprintf("%q is not one of %s", algorithm, strings.Join(known, ", ")))
	}
}

// region compares the Regions in the file, because ReEncrypt works within one Region.
func (c *checker) region() {
	region := c.job.KMS.Region
	where := "kms.region"
	compare := func(field, key string) {
		parts := strings.Split(key, ":")
		switch {
		case len(parts) < 6 || parts[0] != "arn":
		case region == "":
			region, where = parts[3], field
		case parts[3] != region:
			c.add(field, fmt.Sprintf("the key is in %s, but %s has %s; ReEncrypt works within one "+
				"Region, so use keys of one Region", parts[3], where, region))
		}
	}
	compare("destination.key", c.job.Destination.Key)
	for i, key := range c.job.Source.Keys {
		compare(element("source.keys", i), key)
	}
}

func (c *checker) kms() {
	kms := &c.job.KMS
	quota := c.job.source.written("kms.quota")
	switch share := kms.QuotaShare(); {
	case quota && c.job.source.written("kms.rate"):
		c.add("kms.quota", "cannot be used with kms.rate; keep one of them")
	case quota && (share <= 0 || share > 1):
		c.add("kms.quota", "must be more than 0% and at most 100%, such as 60%")
	case !quota && kms.Rate <= 0:
		c.add("kms.rate", "must be greater than 0; it is a number of ReEncrypt requests per second")
	}
	c.service("kms", kms.Endpoint, kms.RoleARN)
	if len(kms.GrantTokens) > 10 {
		c.add("kms.grant_tokens", "has more than 10 tokens, the limit of a request to KMS")
	}
	for i, token := range kms.GrantTokens {
		if token == "" {
			c.add(element("kms.grant_tokens", i), "is empty; remove it, or set its variable")
		}
	}
}

func (c *checker) limits() {
	if w := c.job.Workers; c.job.source.written("workers") && w < 1 || w < 0 || w > 4096 {
		c.add("workers", "must be 1 to 4096; remove it to tune the number automatically")
	}
	c.stopAfter("stop_after", c.job.StopAfter)
	if c.job.MaxOutage <= 0 {
		c.add("max_outage", "must be longer than 0s")
	}
}

func (c *checker) stopAfter(field string, slots int) {
	if c.job.source.written(field) && slots < 0 {
		c.add(field, "must be a number of slots, or 0 to disable this check")
	}
}

func (c *checker) files() {
	location, wrong := parseLocation(c.job.Checkpoint)
	switch {
	case wrong != "":
		c.add("checkpoint", wrong)
	case location.Shared():
		c.service("checkpoint", location.Endpoint, location.RoleARN)
	case c.job.AuditLog == location.File:
		c.add("audit_log", "is the same file as the checkpoint; set another path")
	case c.job.AuditLog == location.File+".lock":
		c.add("audit_log", "is the lock file of the checkpoint; set another path")
	}
	if c.job.Lease < MinLease {
		c.add("lease", fmt.Sprintf("must be at least %s", MinLease))
	}
	if c.job.source.written("audit_log") && c.job.AuditLog == "" {
		c.add("audit_log", "has no path; remove it to store the log next to the checkpoint")
	}
}

// evidence checks where the audit log is uploaded, and the size of its segments.
func (c *checker) evidence() {
	if s := c.job.AuditLogSegment; s < MinSegment || s > MaxSegment {
		c.add("audit_log_segment", fmt.Sprintf("must be %s to %s", MinSegment, MaxSegment))
	}
	if !c.job.source.written("evidence") || c.job.Evidence == EvidenceLocal {
		return
	}
	location, wrong := parseLocation(c.job.Evidence)
	if location.Bucket == "" {
		c.add("evidence", "must be s3://BUCKET, s3://BUCKET/PREFIX or local")
		return
	}
	if wrong != "" {
		c.add("evidence", wrong)
		return
	}
	c.service("evidence", location.Endpoint, location.RoleARN)
}

// oneLine refuses control characters, which would make logs ambiguous.
func (c *checker) oneLine(field, text string) {
	if c.job.source.written(field) && strings.ContainsFunc(text, isControl) {
		c.add(field, "must be one line without control characters")
	}
}

func isControl(r rune) bool { return r < ' ' }

var roleForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+$`)

// service checks the settings of an AWS client.
func (c *checker) service(field, endpoint, role string) {
	if endpoint != "" && !bareURL(endpoint) {
		c.add(field+".endpoint", "must be a URL without credentials, query or fragment, "+
			"such as http://127.0.0.1:4566")
	}
	if role != "" && !roleForm.MatchString(role) {
		c.add(field+".role_arn", fmt.Sprintf("%q is not the ARN of a role, such as "+
			"arn:aws:iam::111122223333:role/rotator", role))
	}
}

// bareURL reports whether an endpoint is a URL without parts that may be secret. Reports
// print it.
func bareURL(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		u.User == nil && !strings.ContainsAny(endpoint, "?#")
}

func (c *checker) target(field string, t *Target) {
	switch {
	case t.DynamoDB != nil && t.S3 != nil:
		c.add(field+".s3", "cannot be used with dynamodb; split the target")
	case t.Files != nil && (t.DynamoDB != nil || t.S3 != nil):
		c.add(field+".files", "cannot be used with dynamodb or s3; split the target")
	case t.DynamoDB == nil && t.S3 == nil && t.Files == nil:
		c.add(field, "has nothing to scan; set dynamodb: {table: NAME}, s3: {bucket: NAME} or "+
			"files: {root: DIRECTORY}")
	}
	if t.DynamoDB != nil {
		c.dynamoDB(field+".dynamodb", t.DynamoDB)
	}
	if t.S3 != nil {
		c.s3(field+".s3", t.S3)
	}
	if t.Files != nil {
		c.directory(field+".files", t.Files)
	}
	if len(t.Name) > 255 || strings.ContainsFunc(t.Name, isControl) {
		c.add(field+".name", "must be one line of at most 255 bytes")
	}
	if c.job.source.written(field+".name") && t.Name == "" {
		c.add(field+".name", "is empty; remove it to use the default name")
	}
	if c.job.source.written(field+".instruction_suffix") && t.InstructionSuffix == "" {
		c.add(field+".instruction_suffix", "is empty; remove it to use only .instruction")
	}
	if t.Search != SearchRead && t.Search != SearchAll {
		c.add(field+".search",
			fmt.Sprintf("%q is not one of %s, %s", t.Search, SearchRead, SearchAll))
	}
	c.stopAfter(field+".stop_after", t.StopAfter)
	c.contextFile(field+".context_file", t.ContextFile)
	c.contexts(field, t.Context, t.DestinationContext)
	c.slots(field, t)
}

func (c *checker) contextFile(field string, f *ContextFile) {
	if f == nil {
		return
	}
	if f.Path == "" {
		c.add(field+".path", "is missing; set the path of the context file")
	}
	if f.Name == "" {
		c.add(field+".name",
			`is missing; set the name of an item in the file, such as name: "${name}"`)
	}
	c.oneLine(field+".path", f.Path)
}

func (c *checker) dynamoDB(field string, d *DynamoDB) {
	if d.Table == "" {
		c.add(field+".table", "is missing; set the name of the table")
	}
	if d.Segments < 1 || d.Segments > mostSegments {
		c.add(field+".segments", "must be 1 to 1000000, or auto")
	}
	if d.ReadCapacity < 0 || d.ReadCapacity == 0 && c.job.source.written(field+".read_capacity") {
		c.add(field+".read_capacity", "must be greater than 0; remove it for no limit")
	}
	if d.WriteCapacity < 0 ||
		d.WriteCapacity == 0 && c.job.source.written(field+".write_capacity") {
		c.add(field+".write_capacity", "must be greater than 0; remove it for no limit")
	}
	if d.BatchWrites != BatchAuto && d.BatchWrites != BatchNever {
		c.add(field+".batch_writes",
			fmt.Sprintf("%q is not one of %s, %s", d.BatchWrites, BatchAuto, BatchNever))
	}
	c.regions(field, d)
	c.service(field, d.Endpoint, d.RoleARN)
}

// regions checks the Regions of replicas.
func (c *checker) regions(field string, d *DynamoDB) {
	if len(d.Regions) > 0 && d.Endpoint != "" {
		c.add(field+".regions", "cannot be combined with endpoint")
	}
	for i, region := range d.Regions {
		at := element(field+".regions", i)
		switch {
		case !isRegion(region):
			c.add(at, fmt.Sprintf("%q is not a Region, such as eu-west-1", region))
		case region == d.Region || slices.Contains(d.Regions[:i], region):
			c.add(at, fmt.Sprintf("%s is listed twice", region))
		}
	}
}

// isRegion reports whether a text has the form of a Region.
func isRegion(text string) bool {
	return strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		strings.Contains(text, "-")
}

func (c *checker) s3(field string, s *S3) {
	c.bucket(field, s)
	c.globs(field, s.Include, s.Exclude, s.Complete)
	c.keyPattern(field, s.KeyPattern)
	if s.Versions != "" && s.Versions != VersionsReport {
		c.add(field+".versions", fmt.Sprintf("%q is not %s; remove it to read no old versions",
			s.Versions, VersionsReport))
	}
	c.service(field, s.Endpoint, s.RoleARN)
}

func (c *checker) keyPattern(field, pattern string) {
	if _, err := regexp.Compile(pattern); err != nil {
		c.add(field+".key_pattern", fmt.Sprintf("is not a regular expression: %v", err))
	}
}

func (c *checker) directory(field string, f *Files) {
	if f.Root == "" {
		c.add(field+".root", "is missing; set the directory of the files")
	}
	c.oneLine(field+".root", f.Root)
	c.globs(field, f.Include, f.Exclude, f.Complete)
	for list, globs := range map[string][]string{".include": f.Include, ".exclude": f.Exclude} {
		for i, glob := range globs {
			// A path relative to the root has only one valid form.
			clean := path.Clean(glob) == glob && !path.IsAbs(glob) && !outside(glob)
			if glob != "" && !strings.HasSuffix(glob, "/") && !clean {
				c.add(element(field+list, i), fmt.Sprintf(
					"%q is not a glob for a path relative to root, such as **/*.jsonl", glob))
			}
		}
	}
	if f.Mtime != MtimeUpdate && f.Mtime != MtimeKeep {
		c.add(field+".mtime",
			fmt.Sprintf("%q is not one of %s, %s", f.Mtime, MtimeUpdate, MtimeKeep))
	}
	c.keyPattern(field, f.KeyPattern)
}

// outside reports whether a cleaned relative path leaves the root.
func outside(path string) bool { return path == ".." || strings.HasPrefix(path, "../") }

// globs checks include, exclude and complete of S3 and files.
func (c *checker) globs(field string, include, exclude []string, complete string) {
	if c.job.source.written(field+".include") && len(include) == 0 {
		c.add(field+".include", "is empty and matches nothing; remove it to scan all items")
	}
	for list, globs := range map[string][]string{".include": include, ".exclude": exclude} {
		for i, glob := range globs {
			switch {
			case glob == "" || !doublestar.ValidatePattern(glob):
				c.add(element(field+list, i), fmt.Sprintf(
					"%q is not a glob, such as **/*.jsonl; brackets and braces must be closed",
					glob))
			case strings.HasSuffix(glob, "/"):
				c.add(element(field+list, i), fmt.Sprintf(
					"%q ends with a slash; write %q for everything in the folder", glob, glob+"**"))
			}
		}
	}
	c.sentence(field+".complete", complete)
	if c.job.source.written(field+".complete") && len(include)+len(exclude) == 0 {
		c.add(field+".complete", "has no effect, because neither include nor exclude is set; "+
			"remove it")
	}
}

// sentence checks a text that reports quote.
func (c *checker) sentence(field, text string) {
	if c.job.source.written(field) && strings.TrimSpace(text) == "" {
		c.add(field, "is empty; state the reason in one line")
	}
	if utf8.RuneCountInString(text) > maxSentence {
		c.add(field, fmt.Sprintf("is longer than %d characters", maxSentence))
	}
	c.oneLine(field, text)
}

const maxSentence = 500

// slots checks rules that apply to all formats. Package ciphertext checks the others.
func (c *checker) slots(field string, t *Target) {
	if t.Format == "" &&
		!slices.ContainsFunc(t.Slots, func(s Slot) bool { return s.Format != "" }) {
		c.add(field+".format",
			"is missing; set how ciphertexts are stored, such as raw, base64 or json")
		return
	}
	if len(t.Slots) == 0 && slices.Contains([]string{"raw", "base64", "json"}, t.Format) {
		c.add(field+".slots",
			fmt.Sprintf("is missing; format %s requires slots: [{path: PATH}], or "+
				"[{}] for the whole body of an object", t.Format))
	}
	paths := map[[2]string]int{}
	for i := range t.Slots {
		slot, at := &t.Slots[i], element(field+".slots", i)
		if slot.Format == "" && t.Format == "" {
			c.add(at+".format",
				"is missing, and the target has no format; set how the ciphertext is "+
					"stored, such as raw, base64 or json")
		}
		location := [2]string{slot.Path, slot.Pattern}
		if first, ok := paths[location]; ok {
			c.add(at+".path", fmt.Sprintf("slots[%d] has the same path; keep one of them", first))
		} else {
			paths[location] = i
		}
		c.stopAfter(at+".stop_after", slot.StopAfter)
		c.contexts(at, slot.Context, slot.DestinationContext)
	}
}

// contexts refuses contexts that KMS would refuse: ciphertexts under an asymmetric key have
// no encryption context (API_ReEncrypt).
func (c *checker) contexts(field string, context, destination map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(context)) {
		c.contextName(join(field+".context", name), name)
	}
	for _, name := range slices.Sorted(maps.Keys(destination)) {
		c.contextName(join(field+".destination_context", name), name)
	}
	if asymmetric(c.job.Source.Algorithm) && len(context) > 0 {
		c.add(field+".context", "cannot be used with the asymmetric keys of the source; remove it")
	}
	if asymmetric(c.job.Destination.Algorithm) && len(destination) > 0 {
		c.add(field+".destination_context",
			"cannot be used with the asymmetric key of the destination; remove it")
	}
}

func (c *checker) contextName(field, name string) {
	if name == "" {
		c.add(field, "every value of an encryption context needs a name")
	}
}

// element returns the field of the i-th element of a list.
func element(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
