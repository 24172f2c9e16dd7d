// A small blocking HTTP/1.1 client for tests: says what it is told to, byte by byte if need be, and hands back what
// came.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"

namespace imagecache::test {

struct HttpAnswer {
  int status = 0;                              ///< 0: no answer came
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;
  bool complete = false;  ///< all that was announced came
  std::string header(const std::string& lower_case_name) const {
    const auto found = headers.find(lower_case_name);
    return found == headers.end() ? "" : found->second;
  }
};

class HttpClient {
 public:
  /// Connects to 127.0.0.1.
  explicit HttpClient(std::uint16_t port);

  bool connected() const { return static_cast<bool>(fd_); }
  bool send(std::string_view bytes);
  void half_close();
  void close() { fd_.reset(); }
  /// Reads one answer's head.
  HttpAnswer read_head();
  /// Reads up to `limit` bytes of the body of the answer whose head was read last; fewer at its end.
  std::string read_body(HttpAnswer& answer, std::uint64_t limit = UINT64_MAX);
  /// "GET /x HTTP/1.1" with headers, and the whole answer.
  HttpAnswer request(std::string_view method, std::string_view target, const std::vector<std::string>& headers = {},
                     std::string_view body = {});

 private:
  std::optional<std::string> read_line();
  std::string take(std::uint64_t count);
  bool fill();

  base::Fd fd_;
  std::string buffer_;
  bool head_only_ = false;
  std::optional<std::uint64_t> left_;  // of a body with a length
  bool chunked_ = false;
  bool until_close_ = false;
  std::uint64_t chunk_left_ = 0;
  bool ended_ = false;
};

/// One request on a connection of its own.
HttpAnswer http(std::uint16_t port, std::string_view method, std::string_view target,
                const std::vector<std::string>& headers = {}, std::string_view body = {});

}  // namespace imagecache::test
