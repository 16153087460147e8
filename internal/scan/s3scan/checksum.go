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

// sumBody gives a PUT the checksum of its body, by the algorithm of the object that is
// replaced, CRC32 where that has none. The service refuses a body that does not fit it.
// Over TLS nothing else covers a body behind the end of the connection: the SDK leaves
// it out of the signature there. The SDK would send the same checksum behind the body,
// in chunks that many servers do not read and that cost time; a body that is in memory
// can have it in front. What is not here is left to the SDK.
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

// nvme is the polynomial of CRC64NVME, its bits in reverse (NVM Express, Command Set
// Specification, 64b CRC).
const crc64NVMEPolynomial = 0x9a6c9329ac4bc9b5

func encodeSum(sum []byte) *string { return aws.String(base64.StdEncoding.EncodeToString(sum)) }
