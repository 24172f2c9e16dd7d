#include "base/digest.hpp"

#include <openssl/evp.h>

#include <array>

namespace imagecache::base {

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
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  text.reserve(size * 2);
  for (unsigned i = 0; i < size; ++i) {
    text += digits[raw[i] >> 4];
    text += digits[raw[i] & 15];
  }
  return text;
}

}  // namespace imagecache::base
