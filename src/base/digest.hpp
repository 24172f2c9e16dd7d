// Message digests by the names that Glance uses in `os_hash_algo`, computed by libcrypto.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"

struct evp_md_ctx_st;

namespace imagecache::base {

class Digest {
 public:
  /// "sha512", "sha256", "sha384", "sha1", "md5", "blake2b512"…: any digest libcrypto has. Errc::unsupported else.
  static Result<Digest> of(std::string_view algorithm);

  void update(std::span<const std::byte> data);
  /// Lower-case hexadecimal. The digest is spent afterwards.
  std::string hex();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  explicit Digest(evp_md_ctx_st* context) : context_(context) {}
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// SHA-256 of a short text in lower-case hexadecimal; for what is asked at each request, since it looks the digest up
/// once. Errc::unsupported where libcrypto has none.
Result<std::string> sha256_hex(std::string_view text);

}  // namespace imagecache::base
