// What every room that asks by libcurl wants of it: owners of its things, and the same caution. Header only, so that
// base itself needs no libcurl: the rooms that include this link it. Any thread, one at a time for each handle.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>

namespace imagecache::base {

struct FreeCurl {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeCurlList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeCurlUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlEasy = std::unique_ptr<CURL, FreeCurl>;
using CurlList = std::unique_ptr<curl_slist, FreeCurlList>;
using CurlUrl = std::unique_ptr<CURLU, FreeCurlUrl>;

/// Puts a copy of `text` at the end. False if there is no memory for it; what is in the list so far stays in it.
inline bool append(CurlList& list, const std::string& text) {
  curl_slist* longer = curl_slist_append(list.get(), text.c_str());
  if (longer == nullptr) return false;
  static_cast<void>(list.release());
  list.reset(longer);
  return true;
}

/// HTTP and HTTPS alone, no redirect, no proxy of the environment's: what is asked carries a token, which is for the
/// far side that is named and nobody else. And no signals, which are the whole process's.
inline void set_caution(CURL* easy) {
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
}

/// Any struct with these four members: whether the far side's certificate goes unchecked, the PEM file of the
/// authorities that it is checked against (empty: the machine's), and of our own certificate and its key (empty: none).
template <class Names>
void set_tls(CURL* easy, const Names& names) {
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, names.insecure ? 0L : 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, names.insecure ? 0L : 2L);
  if (!names.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, names.ca_file.c_str());
  if (!names.cert_file.empty()) curl_easy_setopt(easy, CURLOPT_SSLCERT, names.cert_file.c_str());
  if (!names.key_file.empty()) curl_easy_setopt(easy, CURLOPT_SSLKEY, names.key_file.c_str());
}

}  // namespace imagecache::base
