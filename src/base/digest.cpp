#include "base/digest.hpp"

#include <openssl/evp.h>

#include <array>

namespace imagecache::base {
namespace {

std::string to_hex(std::span<const unsigned char> raw) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  text.reserve(raw.size() * 2);
  for (const unsigned char byte : raw) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace

void Digest::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Result<Digest> Digest::of(std::string_view algorithm) {
  const EVP_MD* type = EVP_get_digestbyname(std::string(algorithm).c_str());
  EVP_MD_CTX* context = type ? EVP_MD_CTX_new() : nullptr;
  if (!context || EVP_DigestInit_ex(context, type, nullptr) != 1) {
    EVP_MD_CTX_free(context);
    return fail(Errc::unsupported, "digest '" + std::string(algorithm) + "': libcrypto does not have it");
  }
  return Digest(context);
}

void Digest::update(std::span<const std::byte> data) {
  EVP_DigestUpdate(context_.get(), data.data(), data.size());
}

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned size = 0;
  EVP_DigestFinal_ex(context_.get(), raw.data(), &size);
  return to_hex(std::span(raw).first(size));
}

Result<std::string> sha256_hex(std::string_view text) {
  // Looking it up costs more than digesting a token. Never freed: it is libcrypto's as long as the process lives.
  static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned size = 0;
  if (!sha256 || EVP_Digest(text.data(), text.size(), raw.data(), &size, sha256, nullptr) != 1) {
    return fail(Errc::unsupported, "digest 'sha256': libcrypto does not have it");
  }
  return to_hex(std::span(raw).first(size));
}

}  // namespace imagecache::base
