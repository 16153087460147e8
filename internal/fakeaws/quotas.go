package fakeaws

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"rotator/internal/fakeaws/fault"
)

// Quota holds the values of a quota in Service Quotas, in requests per second. 0 means that
// there is no such value.
type Quota struct{ Applied, Default float64 }

// SetQuota sets the values that Service Quotas returns for a quota, such as ("kms",
// "L-6E3AF000"). The services do not enforce them.
func (s *Server) SetQuota(service, code string, q Quota) {
	s.quotas.mu.Lock()
	defer s.quotas.mu.Unlock()
	s.quotas.known[service+"/"+code] = q
}

// quotaService implements the operations of Service Quotas that read a quota, GetServiceQuota
// and GetAWSDefaultServiceQuota, in the awsJson1_1 protocol.
type quotaService struct {
	mu    sync.Mutex
	known map[string]Quota
}

const quotaTarget = "ServiceQuotasV20190624."

// Operation implements fault.Service.
func (s *quotaService) Operation(r *http.Request) string {
	return "servicequotas:" + strings.TrimPrefix(r.Header.Get("X-Amz-Target"), quotaTarget)
}

// Throttle implements fault.Service.
func (s *quotaService) Throttle(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusBadRequest,
		Code:    "TooManyRequestsException",
		Message: "Rate exceeded",
	})
}

// Fail implements fault.Service.
func (s *quotaService) Fail(w http.ResponseWriter, r *http.Request) {
	s.Refuse(w, r, fault.Answer{
		Status:  http.StatusInternalServerError,
		Code:    "ServiceException",
		Message: "the request failed inside the service",
	})
}

// Refuse implements fault.Service.
func (s *quotaService) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	quotaAnswer(w, a.Status, map[string]any{"__type": a.Code, "Message": a.Message})
}

func (s *quotaService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ ServiceCode, QuotaCode string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.Refuse(w, r, fault.Answer{
			Status:  http.StatusBadRequest,
			Code:    "IllegalArgumentException",
			Message: "the body is not a request",
		})
		return
	}
	s.mu.Lock()
	q := s.known[in.ServiceCode+"/"+in.QuotaCode]
	s.mu.Unlock()
	value := map[string]float64{
		"servicequotas:GetServiceQuota":           q.Applied,
		"servicequotas:GetAWSDefaultServiceQuota": q.Default,
	}[s.Operation(r)]
	if value == 0 {
		s.Refuse(w, r, fault.Answer{
			Status:  http.StatusBadRequest,
			Code:    "NoSuchResourceException",
			Message: "The request failed because the specified quota does not exist.",
		})
		return
	}
	quotaAnswer(w, http.StatusOK, map[string]any{
		"Quota": map[string]any{
			"ServiceCode": in.ServiceCode,
			"QuotaCode":   in.QuotaCode,
			"Value":       value,
			"Unit":        "None",
			"Period":      map[string]any{"PeriodUnit": "SECOND", "PeriodValue": 1},
		},
	})
}

func quotaAnswer(w http.ResponseWriter, status int, content any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(content)
}
