// Branch keys and messages under them, with the AWS Encryption SDK for JavaScript.
// It reads one request as JSON from stdin and writes the answer to stdout.
import { readFileSync } from 'node:fs'
import esdk from '@aws-crypto/client-node'

const { BranchKeyStoreNode, KmsHierarchicalKeyRingNode, buildClient, CommitmentPolicy } = esdk
const request = JSON.parse(readFileSync(0, 'utf8'))

// "discovery", or {identifier: ARN}. Every process has a cache of its own, so that
// the first use of a branch key asks KMS.
const store = new BranchKeyStoreNode({
  storage: { ddbTableName: request.table },
  logicalKeyStoreName: request.store,
  kmsConfiguration: request.kms,
})
const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const keyring = (branchKeyId) => new KmsHierarchicalKeyRingNode({ branchKeyId, keyStore: store, cacheLimitTtl: 600 })
const encryptionContext = { purpose: 'conf' }

// message encrypts a text under the version of a branch key that is active now.
async function message(id, text) {
  const { result } = await encrypt(keyring(id), text, { encryptionContext })
  const { branchKeyVersion } = await store.getActiveBranchKey(id)
  return { id, text, message: result.toString('base64'), version: Buffer.from(branchKeyVersion).toString('utf8') }
}

const commands = {
  // write makes a branch key with as many versions as there are texts.
  async write({ id, context, texts }) {
    const { branchKeyIdentifier } = await store.createKey({ branchKeyIdentifier: id, encryptionContext: context })
    const messages = []
    for (const [i, text] of texts.entries()) {
      if (i > 0) await store.versionKey({ branchKeyIdentifier })
      messages.push(await message(branchKeyIdentifier, text))
    }
    return messages
  },

  // version makes one more version of a branch key that exists.
  async version({ id, text }) {
    await store.versionKey({ branchKeyIdentifier: id })
    return [await message(id, text)]
  },

  // read decrypts messages, and gets the keys of their versions and the active one;
  // each answer is "" or what went wrong.
  async read({ messages }) {
    const answers = {}
    const attempt = async (name, read) => {
      try {
        answers[name] = (await read()) ? '' : 'it is not what was stored'
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
