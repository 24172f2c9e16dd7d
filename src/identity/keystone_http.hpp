// Requests to Keystone over libcurl: the one place of the room that includes curl. Private to the room.
//
// Blocks; any thread. Each call has a connection of its own for its time; idle ones are kept. Follows no redirect, uses
// no proxy of the environment: tokens are for Keystone alone.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "identity/keystone.hpp"

namespace imagecache::identity {

struct KeystoneRequest {
  std::string path;                  ///< below /v3, with the query: "/auth/tokens"
  std::vector<std::string> headers;  ///< "Name: value"
  std::optional<std::string> body;   ///< JSON: makes it a POST
};

struct KeystoneAnswer {
  long status = 0;
  std::string subject_token;  ///< X-Subject-Token
  std::string body;
};

/// "http://host:5000/v3" from what operators write. Errc::invalid_argument if it is no http URL.
Result<std::string> keystone_base_url(const std::string& auth_url);

class KeystoneHttp {
 public:
  explicit KeystoneHttp(const KeystoneCredentials& where);
  ~KeystoneHttp();
  KeystoneHttp(const KeystoneHttp&) = delete;
  KeystoneHttp& operator=(const KeystoneHttp&) = delete;

  /// An answer with a status below 500. Errc::unavailable if Keystone cannot be reached, hangs up, or answers 500 and
  /// above, Errc::timeout never: the caller could do nothing else. Tried again where nothing was understood yet. Once
  /// Keystone is known to be away one request at a time finds out whether it is back, the others fail at once.
  Result<KeystoneAnswer> ask(const KeystoneRequest& request);

 private:
  struct Handle;
  struct Failure {
    std::string why;
    bool again = false;  ///< worth another attempt
    bool away = true;    ///< nobody is there to answer; else it is this one question that goes wrong
  };
  std::expected<KeystoneAnswer, Failure> ask_once(const KeystoneRequest& request);
  std::unique_ptr<Handle> acquire();

  const KeystoneCredentials where_;
  const Result<std::string> base_url_;
  std::mutex mutex_;
  // Protected by mutex_.
  std::vector<std::unique_ptr<Handle>> idle_;
  bool away_ = false;
  bool probing_ = false;
};

}  // namespace imagecache::identity
