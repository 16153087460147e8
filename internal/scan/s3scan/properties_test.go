package s3scan

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
)

// Each of the three requests that write an object sends all properties again. The requests
// are three types of the SDK, so the code lists the properties three times.
func TestEveryPropertyIsSent(t *testing.T) {
	notSent := []string{"ETag", "VersionId", "LastModified", /* of the replaced object */
		"ExpiresString" /* sent by withExpires */}
	full := fullHead()
	all := propertiesOf(full)
	for i := range reflect.TypeFor[properties]().NumField() {
		if reflect.ValueOf(all).Field(i).IsZero() {
			t.Errorf("properties.%s is not set from the response",
				reflect.TypeFor[properties]().Field(i).Name)
		}
	}
	b, object, read := New(Config{Bucket: "b"}), &scan.Object{Key: "k"}, &snapshot{properties: all}
	requests := []any{b.put(object, read, preserved{}), b.copyInput(object, read, grants{}),
		b.createInput(object, read, preserved{})}
	sent := 0
	for i := range reflect.TypeFor[s3.HeadObjectOutput]().NumField() {
		name := reflect.TypeFor[s3.HeadObjectOutput]().Field(i).Name
		if !dependsOn(full, i) || slices.Contains(notSent, name) {
			continue
		}
		sent++
		want := reflect.ValueOf(full).Elem().Field(i).Interface()
		for _, request := range requests {
			field := reflect.ValueOf(request).Elem().FieldByName(name)
			if !field.IsValid() || !reflect.DeepEqual(field.Interface(), want) {
				t.Errorf("%T.%s differs from the object", request, name)
			}
		}
	}
	if want := reflect.TypeFor[properties]().NumField() - len(notSent); sent != want {
		t.Errorf("%d properties are sent, want %d", sent, want)
	}
}

// fullHead returns a response with all fields set, to distinct values where possible.
func fullHead() *s3.HeadObjectOutput {
	out := &s3.HeadObjectOutput{}
	v := reflect.ValueOf(out).Elem()
	for i := range v.NumField() {
		field := v.Field(i)
		if !field.CanSet() {
			continue
		}
		switch value := field.Addr().Interface().(type) {
		case **string:
			*value = new("value of " + v.Type().Field(i).Name)
		case **int32:
			*value = new(int32(i + 1))
		case **bool:
			*value = new(true)
		case **time.Time:
			*value = new(time.UnixMilli(time.Now().Add(time.Hour).UnixMilli() + int64(i)))
		default:
			if field.Kind() == reflect.String {
				field.SetString("value of " + v.Type().Field(i).Name)
			}
		}
	}
	out.ServerSideEncryption = types.ServerSideEncryptionAwsKms // a bucket key requires SSE-KMS
	return out
}

// dependsOn reports whether properties depend on the i-th field of the response.
func dependsOn(full *s3.HeadObjectOutput, i int) bool {
	without := *full
	field := reflect.ValueOf(&without).Elem().Field(i)
	if !field.CanSet() {
		return false
	}
	field.SetZero()
	return propertiesOf(&without) != propertiesOf(full)
}
