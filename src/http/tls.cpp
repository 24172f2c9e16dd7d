#include "http/tls.hpp"

#include <openssl/err.h>

#include <array>
#include <span>
#include <string_view>

#include "base/try.hpp"

namespace imagecache::http {
namespace {

Result<SslContextPtr> fresh_context(const SSL_METHOD* method) {
  ERR_clear_error();
  SslContextPtr context(SSL_CTX_new(method));
  if (!context) return fail(Errc::internal, "TLS: " + take_ssl_reason());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_ENABLE_KTLS);
  // A write may take a part, and may be repeated from another address; idle connections hold no record buffers.
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);
  return context;
}

Result<void> use_certificate(SSL_CTX* context, const std::string& cert_file, const std::string& key_file) {
  const std::string& key = key_file.empty() ? cert_file : key_file;
  if (SSL_CTX_use_certificate_chain_file(context, cert_file.c_str()) != 1) {
    return fail(Errc::invalid_argument, "the certificate " + cert_file + " cannot be used: " + take_ssl_reason());
  }
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return fail(Errc::invalid_argument,
                "the key " + key + " cannot be used with the certificate " + cert_file + ": " + take_ssl_reason());
  }
  return {};
}

constexpr std::array<unsigned char, 9> http_1_1 = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

/// ALPN: http/1.1 or nothing at all; a client that can only speak another protocol is told so.
int select_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, chosen_size, http_1_1.data(), http_1_1.size(), offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

std::string take_ssl_reason() {
  const auto code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  if (ERR_SYSTEM_ERROR(code)) return std::generic_category().message(static_cast<int>(ERR_GET_REASON(code)));
  const char* reason = ERR_reason_error_string(code);
  return reason ? reason : "error " + std::to_string(code);
}

Result<SslContextPtr> make_server_context(const ServerTls& tls) {
  IMAGECACHE_TRY(SslContextPtr context, fresh_context(TLS_server_method()));
  IMAGECACHE_CHECK(use_certificate(context.get(), tls.cert_file, tls.key_file));
  SSL_CTX_set_options(context.get(), SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_alpn_select_cb(context.get(), select_protocol, nullptr);
  // Sessions are resumed by tickets, which cost no memory here; their keys are this context's and go with it.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  static constexpr std::array<unsigned char, 10> id = {'i', 'm', 'a', 'g', 'e', 'c', 'a', 'c', 'h', 'e'};
  SSL_CTX_set_session_id_context(context.get(), id.data(), id.size());
  if (!tls.client_ca_file.empty()) {
    STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(tls.client_ca_file.c_str());
    if (!names || SSL_CTX_load_verify_locations(context.get(), tls.client_ca_file.c_str(), nullptr) != 1) {
      return fail(Errc::invalid_argument,
                  "the CA file for clients " + tls.client_ca_file + " cannot be used: " + take_ssl_reason());
    }
    SSL_CTX_set_client_CA_list(context.get(), names);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

Result<SslContextPtr> make_client_context(const UpstreamTls& tls) {
  IMAGECACHE_TRY(SslContextPtr context, fresh_context(TLS_client_method()));
  if (tls.insecure) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  } else {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    const int loaded = tls.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context.get())
                                           : SSL_CTX_load_verify_locations(context.get(), tls.ca_file.c_str(), nullptr);
    if (loaded != 1) {
      return fail(Errc::unavailable, "the CA file " + tls.ca_file + " cannot be used: " + take_ssl_reason());
    }
  }
  if (!tls.cert_file.empty()) IMAGECACHE_CHECK(use_certificate(context.get(), tls.cert_file, tls.key_file));
  SSL_CTX_set_alpn_protos(context.get(), http_1_1.data(), http_1_1.size());
  return context;
}

}  // namespace imagecache::http
