#!/bin/sh
# Verifies an evidence pack with openssl, jq and sha256sum:
#
#     sh VERIFY.sh [KEY.pem [DIRECTORY]]
#
# KEY.pem is the public key of the signer, from a source that you trust. Without it, the key in the
# pack is used: then the result shows only that the files belong together. DIRECTORY is the pack. The
# default is the directory of this script.
#
# Exit codes: 0 everything is as signed; 1 it is not; 2 the files are as listed, but the pack has no
# signature.
set -eu

refuse() {
    printf 'REFUSED: %s\n' "$1" >&2
    exit 1
}

# decode FIELD FILE writes a base64 member of the bundle to a file.
decode() {
    jq -j "$1" "$bundle" >"$work/base64"
    openssl base64 -d -A -in "$work/base64" -out "$2" || refuse "$1 of $bundle is not base64"
    [ "$(cat "$work/base64")" = "$(openssl base64 -A -in "$2")" ] ||
        refuse "$1 of $bundle is not base64"
}

for tool in openssl jq sha256sum; do
    command -v "$tool" >/dev/null || refuse "$tool is not installed"
done

key=${1:-}
case $key in
'' | /*) ;;
*) key=$PWD/$key ;;
esac
cd "${2:-$(dirname "$0")}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

bundle=evidence.sigstore.json
statement=$work/statement
if [ -f "$bundle" ]; then
    [ ! -e evidence.statement.json ] || refuse "the pack has two statements"
    [ -n "$key" ] || key=evidence.pub
    jq -e '.mediaType == "application/vnd.dev.sigstore.bundle.v0.3+json"
        and .dsseEnvelope.payloadType == "application/vnd.in-toto+json"
        and (.dsseEnvelope.signatures | length) == 1' "$bundle" >/dev/null ||
        refuse "$bundle is not a signed statement"
    decode .dsseEnvelope.payload "$statement"
    decode '.dsseEnvelope.signatures[0].sig' "$work/signature"
    jq -j .verificationMaterial.publicKey.hint "$bundle" >"$work/hint"
    jq -j .predicate.signer.key "$statement" >"$work/signer" || refuse "the statement is not JSON"
    [ "$(cat "$work/hint")" = "$(cat "$work/signer")" ] ||
        refuse "$bundle names another key than its statement"
    # DSSE signs: DSSEv1 LENGTH TYPE LENGTH PAYLOAD
    {
        printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c <"$statement")"
        cat "$statement"
    } >"$work/signed"
    openssl pkey -pubin -in "$key" -text_pub -noout >"$work/key" 2>/dev/null ||
        refuse "$key is not a public key in PEM"
    set --
    if grep -q Modulus "$work/key"; then
        set -- -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest
    fi
    openssl dgst -sha256 -verify "$key" "$@" -signature "$work/signature" "$work/signed" \
        >/dev/null 2>&1 || refuse "the signature is not by this key, or the statement was changed"
elif [ -n "$key" ]; then
    refuse "the pack has no signature"
else
    [ -f evidence.statement.json ] || refuse "the pack has no statement"
    cat evidence.statement.json >"$statement"
fi

jq -e '._type == "https://in-toto.io/Statement/v1"
    and .predicateType == "urn:rotator:evidence:v1"
    and (.subject | length) > 0
    and all(.subject[]; (.name | test("\\A[A-Za-z0-9_][A-Za-z0-9._-]*\\z"))
        and (.digest.sha256 | test("\\A[0-9a-f]{64}\\z")))' "$statement" >/dev/null ||
    refuse "the statement is not that of an evidence pack"
jq -r '.subject[].name' "$statement" >"$work/names"
for file in .* *; do
    [ -e "$file" ] || [ -L "$file" ] || continue # a pattern without a match
    case $file in
    . | .. | evidence.sigstore.json | evidence.statement.json) ;;
    *[!A-Za-z0-9._-]*) refuse "a file is not listed in the statement" ;;
    esac
    case $file in
    . | ..) continue ;;
    esac
    [ -f "$file" ] && [ ! -L "$file" ] || refuse "$file is not a regular file"
    case $file in
    evidence.sigstore.json | evidence.statement.json) continue ;;
    esac
    grep -q -x -F -e "$file" "$work/names" || refuse "$file is not listed in the statement"
done
jq -r '.subject[] | .digest.sha256 + "  " + .name' "$statement" >"$work/sums"
sha256sum -c "$work/sums" >"$work/checked" 2>&1 || {
    grep -v ': OK$' "$work/checked" >&2 || true
    refuse "files are missing or were changed"
}

printf 'All %d files are as listed.\n' "$(wc -l <"$work/names")"
jq -r '.predicate | "Job \(.job), pack of \(.created):", (.verdicts[] | "- " + .sentence)' \
    "$statement" >"$work/text"
jq -r '.predicate.exceptions // empty
    | "exceptions.csv lists \(.listed) of \(.total) exceptions."' "$statement" >>"$work/text"
fold -s -w 80 "$work/text"
if [ ! -f "$bundle" ]; then
    printf 'NOT SIGNED: anybody can have written this pack.\n' >&2
    exit 2
fi
jq -r '.predicate.signer | "Signed with \(.key), \(.algorithm)."' "$statement" >"$work/text"
fold -s -w 80 "$work/text"
if [ "$key" = evidence.pub ]; then
    printf 'The key is the one in the pack. Compare it with that of the signer:\nsee VERIFY.md.\n'
fi
