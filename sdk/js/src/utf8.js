// Text as UTF-8 bytes. Old TVs have no TextEncoder. Knows nothing else.

// A surrogate without its other half becomes U+FFFD, as TextEncoder does it, so no text is refused.
export function utf8(text) {
  var whole = text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, function (some) {
    return some[1] ? some : "\ufffd";
  });
  var binary = unescape(encodeURIComponent(whole)); // one character a byte
  var bytes = new Uint8Array(binary.length);
  for (var i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
