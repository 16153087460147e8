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

// Whatever properties take from an object is in each of the three requests that make
// it anew. The requests are three types of the SDK, so each says the same in its own
// lines.
func TestEveryPropertyIsSent(t *testing.T) {
	notSent := []string{"ETag", "VersionId", "LastModified", /* of what is replaced */
		"ExpiresString" /* sent raw, by withExpires */}
	full := everything()
	all := propertiesOf(full)
	for i := range reflect.TypeFor[properties]().NumField() {
		if reflect.ValueOf(all).Field(i).IsZero() {
			t.Errorf("properties.%s is taken from no answer",
				reflect.TypeFor[properties]().Field(i).Name)
		}
	}
	b, object, read := New(Config{Bucket: "b"}), &scan.Object{Key: "k"}, &snapshot{properties: all}
	requests := []any{b.put(object, read, preserved{}), b.copyInput(object, read, grants{}),
		b.createInput(object, read, preserved{})}
	taken := 0
	for i := range reflect.TypeFor[s3.HeadObjectOutput]().NumField() {
		name := reflect.TypeFor[s3.HeadObjectOutput]().Field(i).Name
		if !takes(full, i) || slices.Contains(notSent, name) {
			continue
		}
		taken++
		want := reflect.ValueOf(full).Elem().Field(i).Interface()
		for _, request := range requests {
			field := reflect.ValueOf(request).Elem().FieldByName(name)
			if !field.IsValid() || !reflect.DeepEqual(field.Interface(), want) {
				t.Errorf("%T.%s is not that of the object", request, name)
			}
		}
	}
	if want := reflect.TypeFor[properties]().NumField() - len(notSent); taken != want {
		t.Errorf("%d properties are sent, of %d", taken, want)
	}
}

// everything is an answer in which each field is set, to a value of its own where its
// type has many.
func everything() *s3.HeadObjectOutput {
	out := &s3.HeadObjectOutput{}
	v := reflect.ValueOf(out).Elem()
	for i := range v.NumField() {
		field := v.Field(i)
		if !field.CanSet() {
			continue
		}
		switch value := field.Addr().Interface().(type) {
		case **string:
			*value = new("of " + v.Type().Field(i).Name)
		case **int32:
			*value = new(int32(i + 1))
		case **bool:
			*value = new(true)
		case **time.Time:
			*value = new(time.UnixMilli(time.Now().Add(time.Hour).UnixMilli() + int64(i)))
		default:
			if field.Kind() == reflect.String {
				field.SetString("of " + v.Type().Field(i).Name)
			}
		}
	}
	out.ServerSideEncryption = types.ServerSideEncryptionAwsKms // or a bucket key means nothing
	return out
}

// takes says whether properties depend on a field of the answer.
func takes(full *s3.HeadObjectOutput, i int) bool {
	without := *full
	field := reflect.ValueOf(&without).Elem().Field(i)
	if !field.CanSet() {
		return false
	}
	field.SetZero()
	return propertiesOf(&without) != propertiesOf(full)
}
