// Writes and reads branch keys, and messages under them, with the AWS Encryption SDK for
// JavaScript. The program reads one request as JSON from stdin and writes its response to stdout.
import { readFileSync } from 'node:fs'
import esdk from '@aws-crypto/client-node'

const { BranchKeyStoreNode, KmsHierarchicalKeyRingNode, buildClient, CommitmentPolicy } = esdk
const request = JSON.parse(readFileSync(0, 'utf8'))

// request.kms is "discovery" or {identifier: ARN}. Every process has its own cache, so the first
// use of a branch key sends a request to KMS.
const store = new BranchKeyStoreNode({
  storage: { ddbTableName: request.table },
  logicalKeyStoreName: request.store,
  kmsConfiguration: request.kms,
})
const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const keyring = (branchKeyId) => new KmsHierarchicalKeyRingNode({ branchKeyId, keyStore: store, cacheLimitTtl: 600 })
const encryptionContext = { purpose: 'conf' }

// message encrypts a text under the active version of a branch key.
async function message(id, text) {
  const { result } = await encrypt(keyring(id), text, { encryptionContext })
  const { branchKeyVersion } = await store.getActiveBranchKey(id)
  return { id, text, message: result.toString('base64'), version: Buffer.from(branchKeyVersion).toString('utf8') }
}

const commands = {
  // write creates a branch key with one version for each text.
  async write({ id, context, texts }) {
    const { branchKeyIdentifier } = await store.createKey({ branchKeyIdentifier: id, encryptionContext: context })
    const messages = []
    for (const [i, text] of texts.entries()) {
      if (i > 0) await store.versionKey({ branchKeyIdentifier })
      messages.push(await message(branchKeyIdentifier, text))
    }
    return messages
  },

  // version creates another version of an existing branch key.
  async version({ id, text }) {
    await store.versionKey({ branchKeyIdentifier: id })
    return [await message(id, text)]
  },

  // read decrypts messages, and reads the branch key in their version and in the active version.
  // Each answer is "" or the error.
  async read({ messages }) {
    const answers = {}
    const attempt = async (name, read) => {
      try {
        answers[name] = (await read()) ? '' : 'the plaintext differs from the stored one'
      } catch (error) {
        answers[name] = String(error.message || error)
      }
    }
    for (const { id, text, message, version } of messages) {
      await attempt(`${id}: message "${text}"`, async () => {
        const { plaintext } = await decrypt(keyring(id), Buffer.from(message, 'base64'))
        return plaintext.toString('utf8') === text
      })
      await attempt(`${id}: version of "${text}"`, async () => (await store.getBranchKeyVersion(id, version)).branchKey().length === 32)
      await attempt(`${id}: active version`, async () => (await store.getActiveBranchKey(id)).branchKey().length === 32)
    }
    return answers
  },
}

process.stdout.write(JSON.stringify(await commands[request.command](request)))
