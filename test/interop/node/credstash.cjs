// Writes and reads credentials with nodecredstash. The program reads one request as JSON from
// stdin and writes its response to stdout.
const { readFileSync } = require('node:fs')

process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = '1'
const Credstash = require('nodecredstash')

const request = JSON.parse(readFileSync(0, 'utf8'))
const credstash = new Credstash({
  table: request.table,
  kmsKey: request.key,
  awsOpts: { endpoint: process.env.AWS_ENDPOINT_URL, region: process.env.AWS_REGION, maxRetries: 0 },
})

const commands = {
  async put({ secrets }) {
    for (const secret of secrets) await credstash.putSecret(secret)
    return {}
  },

  // get returns "" for every secret with the expected plaintext, otherwise the error.
  async get({ secrets }) {
    const answers = {}
    for (const { name, version, secret, context } of secrets) {
      try {
        answers[`${name} ${version}`] = (await credstash.getSecret({ name, version, context })) === secret ? '' : 'the plaintext differs from the stored one'
      } catch (error) {
        answers[`${name} ${version}`] = String(error.message || error)
      }
    }
    return answers
  },
}

commands[request.command](request).then(
  (answer) => process.stdout.write(JSON.stringify(answer)),
  (error) => { process.stderr.write(`${error.stack || error}\n`); process.exitCode = 1 },
)
