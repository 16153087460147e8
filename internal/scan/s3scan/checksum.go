package s3scan

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"hash/crc64"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// setChecksum adds the checksum of the body to a PUT. It uses the algorithm of the object
// that is replaced, or CRC32 if that has none. The service refuses a body that does not
// match. Over TLS the SDK does not sign the body, so no other check covers it end to end. The
// SDK would send the same checksum as a trailer of a chunked body, which many servers do not
// support and which is slower. A body in memory can have it in a header. Algorithms that are
// not listed here are left to the SDK.
func setChecksum(in *s3.PutObjectInput, body []byte) {
	switch in.ChecksumAlgorithm {
	case "", types.ChecksumAlgorithmCrc32:
		in.ChecksumCRC32 = encodeSum(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
	case types.ChecksumAlgorithmCrc32c:
		in.ChecksumCRC32C = encodeSum(binary.BigEndian.AppendUint32(nil,
			crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))))
	case types.ChecksumAlgorithmCrc64nvme:
		in.ChecksumCRC64NVME = encodeSum(binary.BigEndian.AppendUint64(nil,
			crc64.Checksum(body, crc64.MakeTable(crc64NVMEPolynomial))))
	case types.ChecksumAlgorithmSha1:
		sum := sha1.Sum(body)
		in.ChecksumSHA1 = encodeSum(sum[:])
	case types.ChecksumAlgorithmSha256:
		sum := sha256.Sum256(body)
		in.ChecksumSHA256 = encodeSum(sum[:])
	}
}

// crc64NVMEPolynomial is the reversed polynomial of CRC64NVME (NVM Express, Command Set
// Specification, 64b CRC).
const crc64NVMEPolynomial = 0x9a6c9329ac4bc9b5

func encodeSum(sum []byte) *string { return aws.String(base64.StdEncoding.EncodeToString(sum)) }
