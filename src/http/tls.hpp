// OpenSSL's objects as ours: contexts made of files, checked whole before they are used, and replaced on reload while
// connections of the old one go on. Any thread.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <mutex>
#include <string>

#include "http/server.hpp"

namespace imagecache::http {

struct SslDeleter {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslPtr = std::unique_ptr<SSL, SslDeleter>;
using SslContextPtr = std::unique_ptr<SSL_CTX, SslDeleter>;

/// TLS 1.2 or later, ALPN http/1.1, kTLS where the kernel has it. The key must belong to the certificate.
Result<SslContextPtr> make_server_context(const ServerTls& tls);
Result<SslContextPtr> make_client_context(const UpstreamTls& tls);

/// The newest reason on OpenSSL's error queue of this thread, which is emptied.
std::string take_ssl_reason();

/// A context that can be exchanged for a newer one while others make connections of it.
template <class Files>
class TlsContext {
 public:
  using Make = Result<SslContextPtr> (*)(const Files&);
  TlsContext(Files files, Make make) : files_(std::move(files)), make_(make) {}

  /// Reads the files. An error leaves the context as it was.
  Result<void> load() {
    auto made = make_(files_);
    if (!made) return std::unexpected(std::move(made).error());
    const std::lock_guard lock(mutex_);
    context_ = std::move(*made);
    return {};
  }
  bool is_loaded() {
    const std::lock_guard lock(mutex_);
    return static_cast<bool>(context_);
  }
  /// For one connection, which keeps its context; loads the files if that was not done yet.
  Result<SslPtr> connection() {
    for (bool tried = false;; tried = true) {
      {
        const std::lock_guard lock(mutex_);
        if (context_) {
          SslPtr ssl(SSL_new(context_.get()));
          if (!ssl) return fail(Errc::internal, "TLS: " + take_ssl_reason());
          return ssl;
        }
      }
      if (tried) return fail(Errc::internal, "TLS: no context");
      if (auto loaded = load(); !loaded) return std::unexpected(std::move(loaded).error());
    }
  }

 private:
  const Files files_;
  const Make make_;
  std::mutex mutex_;
  SslContextPtr context_;  // protected by mutex_
};
using ServerTlsContext = TlsContext<ServerTls>;
using UpstreamTlsContext = TlsContext<UpstreamTls>;

}  // namespace imagecache::http
