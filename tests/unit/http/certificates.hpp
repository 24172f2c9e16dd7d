// Certificates of a test's own: an authority, and what it signs for 127.0.0.1 and localhost. Nothing of it is secret.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <memory>
#include <string>

namespace imagecache::http::test_rig {

class Authority {
 public:
  explicit Authority(const std::string& name) : key_(make_key()), certificate_(make(name, key_, nullptr)) {}
  ~Authority() {
    X509_free(certificate_);
    EVP_PKEY_free(key_);
  }
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;

  /// The authority's own certificate at `path`.
  std::string write(const std::string& path) const {
    append(path, "w", [this](std::FILE* file) { return PEM_write_X509(file, certificate_); });
    return path;
  }
  /// A certificate it signs for `name`, with its key behind it, at `path`.
  std::string issue(const std::string& path, const std::string& name) {
    EVP_PKEY* key = make_key();
    X509* certificate = make(name, key, this);
    append(path, "w", [&](std::FILE* file) { return PEM_write_X509(file, certificate); });
    append(path, "a",
           [&](std::FILE* file) { return PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr); });
    X509_free(certificate);
    EVP_PKEY_free(key);
    return path;
  }

 private:
  static EVP_PKEY* make_key() {
    std::string curve = "P-256";
    return EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve.data());
  }
  template <class Write>
  static void append(const std::string& path, const char* mode, Write write) {
    std::FILE* file = std::fopen(path.c_str(), mode);
    ASSERT_NE(file, nullptr) << path;
    EXPECT_EQ(write(file), 1);
    std::fclose(file);
  }
  static void extend(X509* certificate, X509* issuer, int what, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, what, value);
    ASSERT_NE(extension, nullptr) << value;
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509* make(const std::string& name, EVP_PKEY* key, const Authority* issuer) {
    X509* made = X509_new();
    X509_set_version(made, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(made), -3600);
    X509_gmtime_adj(X509_getm_notAfter(made), 24 * 3600);
    X509_set_pubkey(made, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509* signer = issuer ? issuer->certificate_ : made;
    X509_set_issuer_name(made, X509_get_subject_name(signer));
    extend(made, signer, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (issuer) extend(made, signer, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    EXPECT_GT(X509_sign(made, issuer ? issuer->key_ : key, EVP_sha256()), 0);
    return made;
  }

  long serial_ = 0;
  EVP_PKEY* key_;
  X509* certificate_;
};

}  // namespace imagecache::http::test_rig
