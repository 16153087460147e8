package ciphertext

import (
	"mime"
	"unicode/utf8"
)

// fromS3 decodes a metadata value that a client sent in UTF-8. S3 interprets each byte of
// the value as a Latin-1 character and returns characters outside of ASCII as encoded
// words (RFC 2047): ü is returned as =?UTF-8?Q?=C3=83=C2=BC?= (Working with object
// metadata, Amazon S3; "double encoding" in data-format/metadata-strategy.md of the S3
// Encryption Client specification). A value without encoded words is unchanged. Some
// servers return all values unchanged.
func fromS3(text string) (string, *Refused) {
	decoded, err := new(mime.WordDecoder).DecodeHeader(text)
	if err == nil && decoded == text {
		return text, nil
	}
	var sent []byte
	latin := err == nil
	for _, r := range decoded {
		latin = latin && r <= 0xff
		sent = append(sent, byte(r))
	}
	if !latin || !utf8.Valid(sent) {
		return "", refuse("metadata-encoding", "the encryption context in the metadata has "+
			"characters outside of ASCII in an encoding that S3 is not known to return")
	}
	return string(sent), nil
}

// asWritten returns text that the store does not change.
func asWritten(text string) (string, *Refused) { return text, nil }
