package fakeaws

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fault"
)

// SetStream adds a Kinesis data stream that keeps its records for a time, in whole hours.
func (s *Server) SetStream(arn string, retention time.Duration) {
	s.kinesis.mu.Lock()
	defer s.kinesis.mu.Unlock()
	s.kinesis.retention[arn] = retention
}

// kinesisService implements DescribeStreamSummary of Kinesis Data Streams, in the awsJson1_1
// protocol.
type kinesisService struct {
	mu        sync.Mutex
	retention map[string]time.Duration // by ARN
}

const kinesisTarget = "Kinesis_20131202."

// Operation implements fault.Service.
func (s *kinesisService) Operation(r *http.Request) string {
	return "kinesis:" + strings.TrimPrefix(r.Header.Get("X-Amz-Target"), kinesisTarget)
}

// Throttle implements fault.Service.
func (s *kinesisService) Throttle(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusBadRequest,
		Code:    "LimitExceededException",
		Message: "Rate exceeded",
	})
}

// Fail implements fault.Service.
func (s *kinesisService) Fail(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusInternalServerError,
		Code:    "InternalFailure",
		Message: "the request failed inside the service",
	})
}

// Refuse implements fault.Service.
func (s *kinesisService) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	quotaAnswer(w, a.Status, map[string]any{"__type": a.Code, "message": a.Message})
}

func (s *kinesisService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ StreamARN string }
	err := json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	retention, known := s.retention[in.StreamARN]
	s.mu.Unlock()
	if err != nil || !known || s.Operation(r) != "kinesis:DescribeStreamSummary" {
		s.Refuse(w, r, fault.Answer{
			Status:  http.StatusBadRequest,
			Code:    "ResourceNotFoundException",
			Message: "there is no such stream",
		})
		return
	}
	quotaAnswer(w, http.StatusOK, map[string]any{"StreamDescriptionSummary": map[string]any{
		"StreamARN":               in.StreamARN,
		"StreamName":              in.StreamARN[strings.LastIndexByte(in.StreamARN, '/')+1:],
		"StreamStatus":            "ACTIVE",
		"RetentionPeriodHours":    int(retention / time.Hour),
		"OpenShardCount":          1,
		"EnhancedMonitoring":      []any{},
		"StreamCreationTimestamp": 0,
	}})
}
