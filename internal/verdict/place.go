package verdict

import (
	"net/url"
	"path"
	"slices"
	"strings"
)

// Place is where a target is, and which of its items and slots are read. An empty field is not
// known, or does not apply to the kind.
type Place struct {
	Kind string // dynamodb, s3 or files
	// Name is the name or the ARN of a table or bucket.
	Name, Prefix string
	// Root is the root of files as the job file names it. Path is the same directory as an absolute
	// path without symbolic links.
	Root, Path       string
	Region, Endpoint string
	Format           string
	// Role is the role with which the target is read, and Account the account whose table or
	// bucket the name selects. They, Path, Include and Exclude are known only if Reached is set.
	Reached          bool
	Role, Account    string
	Include, Exclude []string
	// Complete is why the items that Include and Exclude leave out do not matter, or "".
	Complete string
	// Rules names the slots of the job file, and formats that find their slots themselves. FoundBy
	// are those with which a ciphertext was found.
	Rules, FoundBy []string
}

// callersOwn is how the credentials of a target without a role are named.
const callersOwn = "the credentials of the caller"

// roleName returns how the credentials are named in a sentence.
func (p *Place) roleName() string {
	if p.Role == "" {
		return callersOwn
	}
	return "role " + p.Role
}

// credentials returns the credentials of a place with their account, if it is known.
func (p *Place) credentials() string {
	if p.Account == "" {
		return p.roleName()
	}
	return "account " + p.Account + " (" + p.roleName() + ")"
}

// base returns the name of a table or bucket without the rest of its ARN.
func (p *Place) base() string {
	parts := strings.SplitN(p.Name, ":", 6)
	if len(parts) < 6 {
		return p.Name
	}
	return strings.TrimPrefix(parts[5], "table/")
}

// service returns the endpoint, or "" for an endpoint of AWS: the Region and the account then
// select the table or bucket.
func (p *Place) service() string {
	u, err := url.Parse(p.Endpoint)
	if err != nil {
		return p.Endpoint
	}
	for _, aws := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws"} {
		if strings.HasSuffix(u.Hostname(), aws) {
			return ""
		}
	}
	return strings.TrimSuffix(p.Endpoint, "/")
}

// sameAccount reports whether two places are read in the same account, as far as it is known. The
// name of a role and its session do not matter if the accounts are known.
func (p *Place) sameAccount(q *Place) bool {
	switch {
	case !p.Reached || !q.Reached || p.Kind == kindFiles:
		return true
	case p.Account != "" && q.Account != "":
		return p.Account == q.Account
	}
	return p.Role == q.Role
}

// kindFiles is the kind of directories. They have no account.
const kindFiles = "files"

// different reports whether two values are known and differ.
func different(a, b string) bool { return a != "" && b != "" && a != b }

// Elsewhere returns how the place that the job file names now differs from the place that a pass
// read, or "" if no difference is known. The text follows "read".
func (p *Place) Elsewhere(now *Place) string {
	switch {
	case !p.sameAccount(now):
		return "with " + p.credentials() + ", but the job file now names " + now.credentials()
	case different(p.Path, now.Path):
		return "in directory " + p.Path + ", but the job file now names " + now.Path
	case different(p.Region, now.Region):
		return "in " + p.Region + ", but the job file now names " + now.Region
	}
	return "" // an endpoint of the job file is part of the fingerprint; others can be proxies
}

// sameStore reports whether two places are in the same table, bucket or directory tree, as far as
// it is known.
func (p *Place) sameStore(q *Place) bool {
	if p.Kind != q.Kind {
		return false
	}
	if p.Kind == kindFiles {
		return within(p.Root, q.Root) || p.Path != "" && within(p.Path, q.Path)
	}
	return p.base() == q.base() && p.service() == q.service() &&
		!different(p.Region, q.Region) && p.sameAccount(q)
}

// within reports whether the path dir is root, or is below it.
func within(dir, root string) bool {
	return root != "" && (dir == root || root == "." && !path.IsAbs(dir) ||
		strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/"))
}

// narrowed returns how the place now, which is in the same store, reads less than p, or "". under
// reports whether ciphertexts that can be decrypted, or whose header identifies their key, were
// left in p. Other failures can be due to a wrong rule, which was corrected since.
func (p *Place) narrowed(now *Place, under bool) string {
	same := p.Prefix == now.Prefix && (p.Kind != kindFiles || p.Root == now.Root)
	switch {
	case !strings.HasPrefix(p.Prefix, now.Prefix):
		return "with prefix " + now.Prefix
	case now.Complete == "" && p.filteredBy(now, same):
		return "with other include or exclude"
	case !under || len(now.Rules) == 0:
		return "" // a target without rules had no items
	}
	var left []string
	for _, rule := range p.FoundBy {
		if !now.uses(rule) {
			left = append(left, rule)
		}
	}
	if len(left) > 0 {
		return "without " + listed(left)
	}
	return ""
}

// FormatRule begins the names of rules that are formats.
const FormatRule = "format "

// uses reports whether a rule of an earlier pass is still a rule of the place.
func (p *Place) uses(rule string) bool {
	isFormat := strings.HasPrefix(rule, FormatRule)
	return slices.Contains(p.Rules, rule) || isFormat && p.Format == "auto" ||
		rule == FormatRule+p.Format
}

// filteredBy reports whether the filters of now may leave out items that p has read. same is true
// if the globs of both are relative to the same prefix.
func (p *Place) filteredBy(now *Place, same bool) bool {
	if !p.Reached || !now.Reached || len(now.Include)+len(now.Exclude) == 0 {
		return false
	}
	included := len(now.Include) == 0 || len(p.Include) > 0 && subset(p.Include, now.Include)
	return !same || !included || !subset(now.Exclude, p.Exclude)
}

// subset reports whether all texts of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(text string) bool { return !slices.Contains(b, text) })
}
