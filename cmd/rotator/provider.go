package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"rotator/internal/outage"
	"rotator/internal/retry"
)

// namedCredentials gives the errors of a credential provider a type and a cause. Without it,
// they could not be distinguished from errors of the request that needs the credentials.
type namedCredentials struct {
	*aws.CredentialsCache
	*providerState
}

// credentialsContext is what a credential provider needs to explain its errors.
type credentialsContext struct {
	settings awsSettings
	identity *identity
	// learn is called with new credentials.
	learn func(aws.Credentials)
	gate  *outage.Gate // of the requests for credentials
}

// providerState is what is known about the last credentials of a provider. It is safe for
// concurrent use.
type providerState struct {
	credentialsContext
	last atomic.Pointer[aws.Credentials] // without session token; nil before the first

	mu    sync.Mutex
	asked time.Time // of the first Retrieve
}

// waited records a call of Retrieve and returns the time since the first one.
func (s *providerState) waited(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked.IsZero() {
		s.asked = now
	}
	return now.Sub(s.asked)
}

func named(p aws.CredentialsProvider, about credentialsContext) aws.CredentialsProvider {
	if p == nil {
		return nil
	}
	cache, ok := p.(*aws.CredentialsCache)
	if !ok {
		cache = aws.NewCredentialsCache(p)
	}
	return namedCredentials{cache, &providerState{credentialsContext: about}}
}

// Retrieve implements aws.CredentialsProvider.
func (n namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	last := n.last.Load()
	if last == nil {
		n.waited(time.Now())
	}
	attempt, err := n.gate.Begin(false)
	if err != nil {
		return aws.Credentials{}, &retry.CredentialsError{Err: err}
	}
	credentials, err := n.CredentialsCache.Retrieve(ctx)
	if err != nil {
		err = n.settings.unavailableCredentials(err, n.ProviderSources(), last,
			n.waited(time.Now()))
	}
	if err = attempt.End(err); err != nil {
		return credentials, err
	}
	if last == nil || last.SecretAccessKey != credentials.SecretAccessKey {
		n.learn(credentials)
		kept := credentials
		kept.SessionToken = ""
		n.last.Store(&kept)
	}
	return credentials, nil
}

// refused discards the credentials if err means that a service refused them, and records
// which credentials they were.
func (n namedCredentials) refused(service string, err error) {
	if err == nil || !retry.RefusesCredentials(err) {
		return
	}
	if last := n.last.Load(); last != nil {
		c := refusedCredentials{accessKey: last.AccessKeyID, source: last.Source,
			settings: n.settings}
		if last.CanExpire {
			c.expires = last.Expires
		}
		n.identity.refuse(service, c)
	}
	if retry.Classify(err) == retry.KindCredentials {
		n.Invalidate()
	}
}
