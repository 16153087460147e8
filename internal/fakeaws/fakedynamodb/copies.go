package fakedynamodb

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// copies holds the backups and exports of all tables by their ARNs. It is guarded by Service.mu.
type copies struct {
	backups map[string]backup
	exports map[string]export
	count   int // number of backups and exports created, for their ids
}

type backup struct {
	table, name string
	made        time.Time
	size        int
}

type export struct {
	table, bucket, prefix string
	made, at              time.Time // at is the point in time of the exported data
}

// tableCopies are the settings of a table that make copies of its items. It is guarded by
// table.mu. The fake stores no copies.
type tableCopies struct {
	stream     *streamSpecification
	streamMade time.Time // of the last stream, which can be disabled
	recovery   time.Time // begin of point-in-time recovery; zero if it is disabled
	days       int
	kinesis    map[string]string // status by stream ARN
	replicas   []string          // Regions
}

type streamSpecification struct {
	StreamEnabled  bool
	StreamViewType string `json:",omitempty"`
}

// setStream sets the stream of a table. It must be called with t.mu held, or before the table is
// visible.
func (t *table) setStream(spec *streamSpecification) {
	switch {
	case spec == nil:
	case spec.StreamEnabled:
		t.copied.stream, t.copied.streamMade = spec, time.Now()
	default:
		t.copied.stream = nil
	}
}

// describeCopies adds the stream and the replicas to the description of a table. It must be
// called with t.mu held.
func (s *Service) describeCopies(t *table, description map[string]any) {
	if t.copied.stream != nil {
		description["StreamSpecification"] = t.copied.stream
	}
	if made := t.copied.streamMade; !made.IsZero() {
		label := made.UTC().Format("2006-01-02T15:04:05.000")
		description["LatestStreamLabel"] = label
		description["LatestStreamArn"] = s.arn(t.name) + "/stream/" + label
	}
	if len(t.copied.replicas) == 0 {
		return
	}
	replicas := []map[string]string{}
	for _, region := range t.copied.replicas {
		replicas = append(replicas, map[string]string{
			"RegionName":    region,
			"ReplicaStatus": "ACTIVE",
		})
	}
	description["Replicas"] = replicas
}

// updateTable is API_UpdateTable for the stream and for new replicas.
func (s *Service) updateTable(r request) (any, error) {
	var in struct {
		TableName           string
		StreamSpecification *streamSpecification
		ReplicaUpdates      []struct{ Create struct{ RegionName string } }
	}
	t, err := s.named(r, &in, &in.TableName, "dynamodb:UpdateTable")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	if spec := in.StreamSpecification; spec != nil &&
		spec.StreamEnabled == (t.copied.stream != nil) {
		t.mu.Unlock()
		return nil, invalid("Table already has an enabled stream, or has none to disable: "+
			"TableName: %s", t.name)
	}
	t.setStream(in.StreamSpecification)
	for _, u := range in.ReplicaUpdates {
		t.copied.replicas = append(t.copied.replicas, u.Create.RegionName)
	}
	t.mu.Unlock()
	return map[string]any{"TableDescription": s.describe(t)}, nil
}

// named reads a request that names a table, and returns the table.
func (s *Service) named(r request, in any, name *string, action string) (*table, error) {
	if err := r.into(in); err != nil {
		return nil, err
	}
	return s.table(r, action, *name)
}

// backedUp is named for operations on backups and exports, whose error for a missing table is
// TableNotFoundException.
func (s *Service) backedUp(r request, in any, name *string, action string) (*table, error) {
	t, err := s.named(r, in, name, action)
	if f := (*failure)(nil); errors.As(err, &f) && f.code == "ResourceNotFoundException" {
		f.code = "TableNotFoundException"
	}
	return t, err
}

// seconds formats a time for JSON answers.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// continuousBackups returns ContinuousBackupsDescription.
func (t *table) continuousBackups() any {
	t.mu.Lock()
	defer t.mu.Unlock()
	recovery := map[string]any{"PointInTimeRecoveryStatus": "DISABLED"}
	if begin := t.copied.recovery; !begin.IsZero() {
		oldest := time.Now().AddDate(0, 0, -t.copied.days)
		if begin.After(oldest) {
			oldest = begin
		}
		recovery = map[string]any{
			"PointInTimeRecoveryStatus":  "ENABLED",
			"RecoveryPeriodInDays":       t.copied.days,
			"EarliestRestorableDateTime": seconds(oldest),
			"LatestRestorableDateTime":   seconds(time.Now()),
		}
	}
	return map[string]any{"ContinuousBackupsDescription": map[string]any{
		"ContinuousBackupsStatus":        "ENABLED",
		"PointInTimeRecoveryDescription": recovery,
	}}
}

func (s *Service) describeContinuousBackups(r request) (any, error) {
	var in struct{ TableName string }
	t, err := s.backedUp(r, &in, &in.TableName, "dynamodb:DescribeContinuousBackups")
	if err != nil {
		return nil, err
	}
	return t.continuousBackups(), nil
}

func (s *Service) updateContinuousBackups(r request) (any, error) {
	var in struct {
		TableName                        string
		PointInTimeRecoverySpecification struct {
			PointInTimeRecoveryEnabled bool
			RecoveryPeriodInDays       int
		}
	}
	t, err := s.backedUp(r, &in, &in.TableName, "dynamodb:UpdateContinuousBackups")
	if err != nil {
		return nil, err
	}
	spec := in.PointInTimeRecoverySpecification
	if spec.RecoveryPeriodInDays < 0 || spec.RecoveryPeriodInDays > 35 {
		return nil, invalid("RecoveryPeriodInDays must be between 1 and 35")
	}
	t.mu.Lock()
	t.copied.recovery = time.Time{}
	if spec.PointInTimeRecoveryEnabled {
		t.copied.recovery, t.copied.days = time.Now(), cmp.Or(spec.RecoveryPeriodInDays, 35)
	}
	t.mu.Unlock()
	return t.continuousBackups(), nil
}

func (s *Service) createBackup(r request) (any, error) {
	var in struct{ TableName, BackupName string }
	t, err := s.backedUp(r, &in, &in.TableName, "dynamodb:CreateBackup")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	b := backup{table: t.name, name: in.BackupName, made: time.Now(), size: t.size}
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copies.backups == nil {
		s.copies.backups = map[string]backup{}
	}
	arn := s.copyARN(t.name, "backup", b.made)
	s.copies.backups[arn] = b
	return map[string]any{"BackupDetails": s.backupDetails(arn, b)}, nil
}

// copyARN returns a new ARN of a backup or an export. It must be called with s.mu held.
func (s *Service) copyARN(table, kind string, made time.Time) string {
	s.copies.count++
	return fmt.Sprintf("%s/%s/%017d-%08x", s.arn(table), kind, made.UnixMilli(), s.copies.count)
}

func (s *Service) backupDetails(arn string, b backup) map[string]any {
	return map[string]any{
		"BackupArn":              arn,
		"BackupName":             b.name,
		"BackupStatus":           "AVAILABLE",
		"BackupType":             "USER",
		"BackupSizeBytes":        b.size,
		"BackupCreationDateTime": seconds(b.made),
	}
}

// authorize checks the permission for an action that names no existing table.
func (s *Service) authorize(r request, action, table string) error {
	s.mu.RLock()
	allow := s.policy
	s.mu.RUnlock()
	if allow == nil || allow(Call{Action: action, Table: table, AccessKey: r.accessKey}) {
		return nil
	}
	return &failure{
		code:    "AccessDeniedException",
		message: "User is not authorized to perform: " + action,
	}
}

// listBackups is API_ListBackups, the oldest backup first.
func (s *Service) listBackups(r request) (any, error) {
	var in struct {
		TableName, ExclusiveStartBackupArn, BackupType string
		Limit                                          int
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	in.TableName = in.TableName[strings.LastIndexByte(in.TableName, '/')+1:]
	if err := s.authorize(r, "dynamodb:ListBackups", in.TableName); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]any{}
	list := []any{}
	last := ""
	for _, arn := range slices.Sorted(maps.Keys(s.copies.backups)) {
		b := s.copies.backups[arn]
		if in.TableName != "" && b.table != in.TableName || arn <= in.ExclusiveStartBackupArn ||
			!slices.Contains([]string{"", "ALL", "USER"}, in.BackupType) {
			continue
		}
		if len(list) == min(cmp.Or(in.Limit, 100), 100) {
			out["LastEvaluatedBackupArn"] = last
			break
		}
		summary := s.backupDetails(arn, b)
		summary["TableName"], summary["TableArn"] = b.table, s.arn(b.table)
		list, last = append(list, summary), arn
	}
	out["BackupSummaries"] = list
	return out, nil
}

func (s *Service) deleteBackup(r request) (any, error) {
	var in struct{ BackupArn string }
	if err := r.into(&in); err != nil {
		return nil, err
	}
	if err := s.authorize(r, "dynamodb:DeleteBackup", ""); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.copies.backups[in.BackupArn]
	if !ok {
		return nil, &failure{
			code:    "BackupNotFoundException",
			message: "Backup not found: " + in.BackupArn,
		}
	}
	delete(s.copies.backups, in.BackupArn)
	details := s.backupDetails(in.BackupArn, b)
	details["BackupStatus"] = "DELETED"
	return map[string]any{"BackupDescription": map[string]any{"BackupDetails": details}}, nil
}

// exportTable is API_ExportTableToPointInTime. The fake writes no files.
func (s *Service) exportTable(r request) (any, error) {
	var in struct {
		TableArn, S3Bucket, S3Prefix string
		ExportTime                   float64
	}
	t, err := s.backedUp(r, &in, &in.TableArn, "dynamodb:ExportTableToPointInTime")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	enabled := !t.copied.recovery.IsZero()
	t.mu.Unlock()
	if !enabled {
		return nil, &failure{
			code: "PointInTimeRecoveryUnavailableException",
			message: fmt.Sprintf("Point in time recovery is not enabled for table '%s'",
				t.name),
		}
	}
	now := time.Now()
	e := export{table: t.name, bucket: in.S3Bucket, prefix: in.S3Prefix, made: now, at: now}
	if in.ExportTime > 0 {
		e.at = time.UnixMilli(int64(in.ExportTime * 1000))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copies.exports == nil {
		s.copies.exports = map[string]export{}
	}
	arn := s.copyARN(t.name, "export", now)
	s.copies.exports[arn] = e
	return map[string]any{"ExportDescription": s.exportDescription(arn, e)}, nil
}

func (s *Service) exportDescription(arn string, e export) map[string]any {
	return map[string]any{
		"ExportArn":    arn,
		"ExportStatus": "COMPLETED",
		"ExportType":   "FULL_EXPORT",
		"ExportTime":   seconds(e.at),
		"StartTime":    seconds(e.made),
		"EndTime":      seconds(e.made),
		"TableArn":     s.arn(e.table),
		"S3Bucket":     e.bucket,
		"S3Prefix":     e.prefix,
		"ExportFormat": "DYNAMODB_JSON",
	}
}

// listed is how long ListExports lists an export.
const listed = 90 * 24 * time.Hour

// listExports is API_ListExports, with at most 25 exports in a page.
func (s *Service) listExports(r request) (any, error) {
	var in struct {
		TableArn, NextToken string
		MaxResults          int
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	name := in.TableArn[strings.LastIndexByte(in.TableArn, '/')+1:]
	if err := s.authorize(r, "dynamodb:ListExports", name); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]any{}
	list := []any{}
	last := ""
	for _, arn := range slices.Sorted(maps.Keys(s.copies.exports)) {
		e := s.copies.exports[arn]
		if name != "" && e.table != name || arn <= in.NextToken || time.Since(e.made) > listed {
			continue
		}
		if len(list) == min(cmp.Or(in.MaxResults, 25), 25) {
			out["NextToken"] = last
			break
		}
		list, last = append(list, map[string]string{
			"ExportArn":    arn,
			"ExportStatus": "COMPLETED",
			"ExportType":   "FULL_EXPORT",
		}), arn
	}
	out["ExportSummaries"] = list
	return out, nil
}

func (s *Service) describeExport(r request) (any, error) {
	var in struct{ ExportArn string }
	if err := r.into(&in); err != nil {
		return nil, err
	}
	s.mu.RLock()
	e, ok := s.copies.exports[in.ExportArn]
	s.mu.RUnlock()
	if err := s.authorize(r, "dynamodb:DescribeExport", e.table); err != nil {
		return nil, err
	}
	if !ok {
		return nil, &failure{
			code:    "ExportNotFoundException",
			message: "Export not found: " + in.ExportArn,
		}
	}
	return map[string]any{"ExportDescription": s.exportDescription(in.ExportArn, e)}, nil
}

type kinesisInput struct{ TableName, StreamArn string }

func (s *Service) setKinesis(r request, action, status string) (any, error) {
	var in kinesisInput
	t, err := s.named(r, &in, &in.TableName, action)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.copied.kinesis == nil {
		t.copied.kinesis = map[string]string{}
	}
	t.copied.kinesis[in.StreamArn] = status
	return map[string]any{
		"TableName":         t.name,
		"StreamArn":         in.StreamArn,
		"DestinationStatus": status,
	}, nil
}

func (s *Service) enableKinesis(r request) (any, error) {
	return s.setKinesis(r, "dynamodb:EnableKinesisStreamingDestination", "ACTIVE")
}

func (s *Service) disableKinesis(r request) (any, error) {
	return s.setKinesis(r, "dynamodb:DisableKinesisStreamingDestination", "DISABLED")
}

func (s *Service) describeKinesis(r request) (any, error) {
	var in kinesisInput
	t, err := s.named(r, &in, &in.TableName, "dynamodb:DescribeKinesisStreamingDestination")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []any{}
	for _, arn := range slices.Sorted(maps.Keys(t.copied.kinesis)) {
		list = append(list, map[string]string{
			"StreamArn":         arn,
			"DestinationStatus": t.copied.kinesis[arn],
		})
	}
	return map[string]any{"TableName": t.name, "KinesisDataStreamDestinations": list}, nil
}
