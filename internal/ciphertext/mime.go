package ciphertext

import (
	"mime"
	"unicode/utf8"
)

// fromS3 reads text that was sent as metadata in UTF-8. S3 takes each byte of it
// for a character of Latin-1, and returns what is not ASCII as RFC 2047 has it, so
// that ü comes back as =?UTF-8?Q?=C3=83=C2=BC?= (Working with object metadata,
// Amazon S3; "double encoding" in data-format/metadata-strategy.md of the S3
// Encryption Client specification). Text without such words is as it was sent, as
// it is on servers that return metadata unchanged.
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
		return "", &Refused{Reason: "metadata-encoding", Detail: "its encryption context has characters that are not ASCII, in an encoding that S3 is not known to return"}
	}
	return string(sent), nil
}

// asWritten reads text that nobody has changed.
func asWritten(text string) (string, *Refused) { return text, nil }
