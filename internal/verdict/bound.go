package verdict

import (
	"fmt"
	"math"

	"rotator/internal/plural"
)

// Part is the random sample of one run: of Population slots whose key only their header named,
// KMS was asked about Checked.
type Part struct {
	Population, Checked, Disagreed int64
}

// Sample states how far headers are confirmed by the samples of a pass.
type Sample struct {
	Population int64   `json:"population"` // slots whose key only a header named
	Checked    int64   `json:"checked"`    // of them with KMS
	Disagreed  int64   `json:"disagreed"`
	Confidence float64 `json:"confidence"`
	// AtMostWrong is the largest number of slots of the population whose header can be wrong,
	// with this confidence. It is nil if a check disagreed.
	AtMostWrong *int64 `json:"at_most_wrong" jsonschema:"nullable"`
	Method      string `json:"method"`
}

// confidence is the confidence of AtMostWrong.
const confidence = 0.95

// The smallest sample that a pass draws (docs/results.md).
const (
	minSample      = 1000
	sampleFraction = 100
)

// sampleOf returns the smallest sample of a population.
func sampleOf(population int64) int64 {
	return min(population, max(minSample, population/sampleFraction))
}

// sample returns the joint sample of the proof, or nil.
func (f *facts) sample() *Sample {
	if f.proof == nil {
		return nil
	}
	return Joint(f.proof.Samples)
}

// Joint returns the joint sample of parts that were drawn independently, with one bound for all of
// them. It is nil if no header decided the key of a slot.
func Joint(parts []Part) *Sample {
	s := Sample{Confidence: confidence, Method: "hypergeometric"}
	for _, p := range parts {
		s.Population += p.Population
		s.Checked += p.Checked
		s.Disagreed += p.Disagreed
	}
	if s.Population == 0 {
		return nil
	}
	if s.Disagreed == 0 {
		most := MostWrong(parts, 1-confidence)
		s.AtMostWrong = &most
	}
	return &s
}

// sampleText states what the sample proves, or is "".
func (f *facts) sampleText() string {
	s := f.sample()
	if s == nil {
		return ""
	}
	proven := f.proven()
	return s.Sentence(proven.fromKMS, proven.fromHeader)
}

// Sentence states what the sample proves, or is "" if a check disagreed. fromKMS and fromHeader are
// the numbers of slots whose key KMS named and only a header named.
func (s *Sample) Sentence(fromKMS, fromHeader int64) string {
	if s.AtMostWrong == nil {
		return ""
	}
	text := fmt.Sprintf("KMS named the key of %s, and headers that of the other %s.",
		count(fromKMS, "slot"), plural.Digits(fromHeader))
	of := count(s.Population, "slot")
	if both := s.Population - fromHeader; both > 0 {
		// Their header had named a key before KMS did.
		of += fmt.Sprintf(" (including %s that KMS named)", plural.Digits(both))
	}
	if s.Checked == s.Population {
		return text + " The headers of " + of + " were compared with KMS, and all agreed."
	}
	return text + fmt.Sprintf(" Of the headers of %s, %s were drawn at random and compared with "+
		"KMS, and all agreed. With 95%% confidence, at most %s (%s%%) %s under another key than "+
		"their header says.", of, plural.Digits(s.Checked), plural.Digits(*s.AtMostWrong),
		percent(float64(*s.AtMostWrong)/float64(s.Population)),
		plural.Form(*s.AtMostWrong, "is", "are"))
}

// percent returns a fraction in percent with two significant digits, without an exponent.
func percent(x float64) string {
	x *= 100
	decimals := 2
	for scaled := x; scaled > 0 && scaled < 0.1 && decimals < 9; scaled *= 10 {
		decimals++
	}
	return fmt.Sprintf("%.*f", decimals, x)
}

// MostWrong returns the largest number of wrong slots in all parts together that the samples
// would overlook with a probability of at least alpha. No check of a sample has disagreed.
//
// One more wrong slot in a part multiplies the probability that the sample of the part overlooks
// all of them by a factor that decreases with each slot. The largest number is therefore reached by
// taking the largest factors of all parts, as long as their product is at least alpha.
func MostWrong(parts []Part, alpha float64) int64 {
	if len(parts) == 1 {
		return mostWrong(parts[0].Population, parts[0].Checked, alpha)
	}
	wrong, left := firstFactors(parts, alpha)
	for range maxFactorTries / max(1, len(parts)) {
		best, cost := -1, math.Inf(1)
		for i, p := range parts {
			if c := costOf(p, wrong[i]); c < cost {
				best, cost = i, c
			}
		}
		if best < 0 || left < cost-tolerance {
			total := int64(0)
			for _, n := range wrong {
				total += n
			}
			return total
		}
		left -= cost
		wrong[best]++
	}
	unchecked := int64(0) // no pass draws such a sample; this bound is true and easy to find
	for _, p := range parts {
		unchecked += p.Population - p.Checked
	}
	return unchecked
}

// maxFactorTries is the maximum number of factors that are compared. Samples of passes need about
// the square of the number of their parts.
const maxFactorTries = 10_000_000

// tolerance is the error that rounding may cause in a logarithm. It makes a bound larger.
const tolerance = 1e-9

// costOf returns the negative logarithm of the factor of the next wrong slot in a part.
func costOf(p Part, wrong int64) float64 {
	if wrong >= p.Population-p.Checked {
		return math.Inf(1)
	}
	return -math.Log1p(-float64(p.Checked) / float64(p.Population-wrong))
}

// firstFactors takes all factors above a common limit, so that only a few are left to be taken one
// by one. It returns the wrong slots by part, and how much of the probability is left, as a
// logarithm.
func firstFactors(parts []Part, alpha float64) (wrong []int64, left float64) {
	at := func(limit float64) (wrong []int64, left float64) {
		left = -math.Log(alpha)
		for _, p := range parts {
			n := slotsBelow(p, limit)
			wrong = append(wrong, n)
			left += overlooked(p.Population, p.Checked, n)
		}
		return wrong, left
	}
	low, high := 0.0, 1.0 // limits of the probability to find one more wrong slot
	for range 100 {
		middle := (low + high) / 2
		if _, left := at(middle); left >= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return at(low)
}

// slotsBelow returns the number of wrong slots of a part of which each is found with a probability
// of at most limit, given that the others are not found.
func slotsBelow(p Part, limit float64) int64 {
	unchecked := p.Population - p.Checked
	if p.Checked == 0 {
		return unchecked
	}
	most := math.Floor(float64(p.Population) - float64(p.Checked)/limit)
	return int64(max(0, min(float64(unchecked), most+1)))
}

// mostWrong is MostWrong for one part: the largest number m of wrong slots for which
// C(n-m, k) / C(n, k) is at least alpha.
func mostWrong(n, k int64, alpha float64) int64 {
	low, high := int64(0), n-k+1 // low wrong slots can be overlooked, high cannot
	for high-low > 1 {
		middle := low + (high-low)/2
		if overlooked(n, k, middle) >= math.Log(alpha)-tolerance {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// overlooked returns the logarithm of the probability that a sample of k of n slots contains none
// of m wrong ones.
func overlooked(n, k, m int64) float64 {
	if m > n-k {
		return math.Inf(-1)
	}
	if few := min(k, m); few <= maxFactors {
		other, sum := max(k, m), 0.0
		for i := range few {
			sum += math.Log1p(-float64(other) / float64(n-i))
		}
		return sum
	}
	// The differences of logarithms of factorials lose precision, which matters only for
	// populations that are too large for it to show.
	return lnFactorial(n-m) - lnFactorial(n-m-k) - lnFactorial(n) + lnFactorial(n-k)
}

// maxFactors is the largest number of factors that are multiplied one by one.
const maxFactors = 1 << 12

// lnFactorial returns the logarithm of n!.
func lnFactorial(n int64) float64 {
	value, _ := math.Lgamma(float64(n) + 1)
	return value
}
