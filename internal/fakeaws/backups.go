package fakeaws

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fault"
)

// RecoveryPoint is a recovery point of AWS Backup.
type RecoveryPoint struct {
	ARN, Vault string
	Created    time.Time
	Deleted    time.Time // when its lifecycle deletes it; zero: never
	Bytes      int64
}

// AddRecoveryPoint adds a recovery point of a resource, which AWS Backup then lists.
func (s *Server) AddRecoveryPoint(resourceARN string, p RecoveryPoint) {
	s.backups.mu.Lock()
	defer s.backups.mu.Unlock()
	s.backups.points[resourceARN] = append(s.backups.points[resourceARN], p)
}

// backupService implements ListRecoveryPointsByResource, in one page, and DescribeRecoveryPoint of
// AWS Backup, with the REST JSON protocol.
type backupService struct {
	mu     sync.Mutex
	points map[string][]RecoveryPoint
}

// isBackup reports whether a request is signed for AWS Backup.
func isBackup(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Authorization"), "/backup/aws4_request")
}

// Operation implements fault.Service.
func (s *backupService) Operation(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, "/resources/") &&
		strings.HasSuffix(r.URL.Path, "/recovery-points") {
		return "backup:ListRecoveryPointsByResource"
	}
	if vault, _ := pointOf(r); vault != "" {
		return "backup:DescribeRecoveryPoint"
	}
	return "backup:Unknown"
}

// Throttle implements fault.Service.
func (s *backupService) Throttle(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusTooManyRequests,
		Code:    "ThrottlingException",
		Message: "Rate exceeded",
	})
}

// Fail implements fault.Service.
func (s *backupService) Fail(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusInternalServerError,
		Code:    "ServiceUnavailableException",
		Message: "the request failed inside the service",
	})
}

// Refuse implements fault.Service.
func (s *backupService) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	w.Header().Set("X-Amzn-Errortype", a.Code)
	backupAnswer(w, a.Status, map[string]any{"Code": a.Code, "Message": a.Message})
}

func (s *backupService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Operation(r) == "backup:Unknown" {
		s.Refuse(w, r, fault.Answer{
			Status:  http.StatusNotImplemented,
			Code:    "UnknownOperationException",
			Message: "this fake does not do " + r.URL.Path,
		})
		return
	}
	if vault, arn := pointOf(r); vault != "" {
		s.describe(w, r, vault, arn)
		return
	}
	arn := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/resources/"), "/recovery-points")
	list := []any{}
	s.mu.Lock()
	for _, p := range s.points[arn] {
		list = append(list, map[string]any{
			"RecoveryPointArn": p.ARN,
			"BackupVaultName":  p.Vault,
			"CreationDate":     float64(p.Created.UnixMilli()) / 1000,
			"BackupSizeBytes":  p.Bytes,
			"Status":           "COMPLETED",
		})
	}
	s.mu.Unlock()
	backupAnswer(w, http.StatusOK, map[string]any{"RecoveryPoints": list})
}

// pointOf returns the vault and the ARN in the path of DescribeRecoveryPoint, or "".
func pointOf(r *http.Request) (vault, arn string) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/backup-vaults/")
	if !ok {
		return "", ""
	}
	vault, arn, _ = strings.Cut(rest, "/recovery-points/")
	return vault, arn
}

func (s *backupService) describe(w http.ResponseWriter, r *http.Request, vault, arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.points {
		for _, p := range list {
			if p.ARN != arn || p.Vault != vault {
				continue
			}
			lifecycle := map[string]any{}
			if !p.Deleted.IsZero() {
				lifecycle["DeleteAt"] = float64(p.Deleted.UnixMilli()) / 1000
			}
			backupAnswer(w, http.StatusOK, map[string]any{
				"RecoveryPointArn":    p.ARN,
				"BackupVaultName":     p.Vault,
				"CalculatedLifecycle": lifecycle,
			})
			return
		}
	}
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusBadRequest,
		Code:    "ResourceNotFoundException",
		Message: "there is no such recovery point",
	})
}

func backupAnswer(w http.ResponseWriter, status int, content any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(content)
}
