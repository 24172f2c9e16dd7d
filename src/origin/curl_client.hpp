// HTTP over libcurl: connections that are kept, waits that end, and a stop that is heeded at once. The room's
// one place that speaks libcurl; private to it.
//
// Blocks; any thread. Each call has a connection of its own for its time, taken from one of two pools of limited size:
// streams, which take minutes, and questions, which all requests wait for, so that neither keeps the other waiting.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::origin {

/// The head of an answer. Of several headers of one name, the last.
struct HttpHead {
  long status = 0;
  std::map<std::string, std::string> headers;  ///< names in lower case

  std::string header(const std::string& lower_case_name) const;
};

struct HttpGet {
  std::string url;
  std::string method = "GET";
  /// The request's body, so many bytes of it; asked for on the caller's thread. Without, there is none.
  std::function<Result<std::size_t>(std::span<std::byte> into)> source{};
  std::uint64_t source_bytes = 0;
  std::vector<std::string> headers;                  ///< "Name: value"
  std::optional<std::chrono::milliseconds> timeout;  ///< of the whole exchange; without, the low-speed limit ends it
  /// From the last byte of our body to the answer's head, in place of the low-speed limit.
  std::optional<std::chrono::milliseconds> answer_timeout{};
  bool long_lived = false;  ///< a stream, not a question
  std::function<Result<void>(const HttpHead&)> on_head;
  std::function<Result<void>(std::span<const std::byte>)> on_data;
};

/// Is it worth asking again, with nothing of the answer used yet?
enum class Retry {
  no,
  other_url,  ///< this far side will say the same again, another may not
  yes,
};

struct HttpFailure {
  Error error;
  Retry retry = Retry::no;
  std::chrono::seconds retry_after{0};  ///< what the far side asks us to wait
};
template <class T>
using HttpResult = std::expected<T, HttpFailure>;

class CurlClient {
 public:
  struct Options {
    std::chrono::milliseconds connect_timeout{10'000};
    std::uint64_t low_speed_bytes_per_s = 1024;
    std::chrono::seconds low_speed_time{60};
    unsigned max_streams = 16;
    unsigned max_questions = 64;
    bool insecure = false;
    std::string ca_file;
    std::string cert_file;
    std::string key_file;
  };

  explicit CurlClient(Options options);
  ~CurlClient();
  CurlClient(const CurlClient&) = delete;
  CurlClient& operator=(const CurlClient&) = delete;

  /// Asks once; follows no redirect, undoes no Content-Encoding, uses no proxy of the environment (the token is for the
  /// far side alone). Success means that the body ended as it announced. A failure of on_head or on_data is returned as
  /// it is; a stop is Errc::cancelled; a far side that is slow Errc::timeout before its head, Errc::unavailable after.
  HttpResult<void> get(const HttpGet& get, const std::stop_token& stop);

  /// Connections made from now on read the certificate files anew; those that are kept are closed as they come back.
  void reload();

 private:
  struct Handle;
  struct Transfer;
  class SpeedWatch;

  struct Pool {
    unsigned most = 1;
    unsigned most_idle = 1;  // a kept connection is one that the far side has to keep too
    unsigned in_use = 0;
    std::vector<std::unique_ptr<Handle>> idle{};  // the last used at the end
  };

  HttpResult<std::unique_ptr<Handle>> acquire(const HttpGet& get, const std::stop_token& stop);
  void release(std::unique_ptr<Handle> handle, bool long_lived);

  const Options options_;
  std::mutex mutex_;
  std::condition_variable_any freed_;
  // Protected by mutex_.
  Pool streams_;
  Pool questions_;
  std::uint64_t generation_ = 0;  // of the certificate files
};

/// What `location` means at `base`, if it is at the same scheme, host and port; else nullopt.
std::optional<std::string> resolve_on_same_host(const std::string& base, const std::string& location);

/// Is it "http(s)://host[:port][/path]", without user, query and fragment? A reason if not.
Result<void> check_base_url(const std::string& url);

}  // namespace imagecache::origin
