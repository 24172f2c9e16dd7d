// A small Glance for tests: a real HTTP/1.1 server on 127.0.0.1, port 0, that serves the images a test gives it and
// misbehaves exactly as the test's script says. No sleeps are needed to stage a race: a Gate holds an answer at a byte
// until the test opens it, and every counter can be waited for.
//
//     ScriptedOrigin origin;
//     auto image = origin.add({.content = Content::generated(8 << 20, 1)});
//     auto gate = std::make_shared<Gate>();
//     origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({4 << 20, gate}); });
//     … start 64 readers of origin.url() …
//     ASSERT_TRUE(gate->wait_arrived());
//     gate->open();
//     EXPECT_EQ(origin.body_bytes(image), 8u << 20);
//
// It answers as glance-api 25.1 does: GET /v2/images/{id} (JSON), GET …/file (single Range; 400 for several, 416 beyond
// the end; 405 for HEAD; 204 without data; 403 if deactivated), DELETE /v2/images/{id} and POST …/actions/deactivate
// and reactivate (204, carried out), PUT …/file (204, body counted, not stored). Errors are HTML. Everything else is
// recorded and answered with what answer() set, or with 200 and a JSON echo.
// A GET …/file for the range by which one asks whether one may download (from byte 2^63-2 on, which no image has) is
// answered as any other, but it is no download: it has a counter and a gate of its own, is in no list of ranges, and of
// the faults it meets those that stay (tokens, status, a redirect), not those that are used up or hold bytes.
//
// Every function may be called from any thread at any time; a script takes effect with the next request.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace imagecache::test {

/// A door, shut until the test opens it, then open for good.
class Gate {
 public:
  void open();
  /// Waits until it is open; false if `stop` came first.
  bool pass(const std::stop_token& stop);
  /// Waits until `count` calls of pass() have begun; false after `timeout`, which only a failing test meets.
  [[nodiscard]] bool wait_arrived(std::size_t count = 1, std::chrono::seconds timeout = std::chrono::seconds(20));
  std::size_t arrived() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::size_t arrived_ = 0;
  bool open_ = false;
};

/// An image's bytes: given, or made on the fly from a seed so that a large one needs no memory. Copies share.
class Content {
 public:
  static Content of(std::string bytes);
  /// Looks random; every 4 KiB page differs, so a page that is out of place shows.
  static Content generated(std::uint64_t size_bytes, std::uint64_t seed);

  std::uint64_t size_bytes() const;
  void read(std::uint64_t offset, std::span<std::byte> into) const;
  /// A piece as a string, cut at the end of the content.
  std::string bytes(std::uint64_t offset = 0, std::uint64_t length = UINT64_MAX) const;
  /// Worked out at the first call, then kept.
  std::string sha512() const;
  std::string md5() const;

 private:
  struct State;
  explicit Content(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

/// What the origin says of an image, and its bytes.
struct ImageSpec {
  std::string id{};  ///< empty: add() makes one
  Content content = Content::of("");
  std::string name = "image";
  std::string status = "active";
  std::string disk_format = "raw";
  std::string container_format = "bare";
  std::string visibility = "public";
  std::string owner = "owner";
  std::string created_at = "2026-11-22T21:32:42Z";
  std::string updated_at = "2026-11-22T21:32:44Z";
  std::uint64_t min_disk_gb = 0;
  std::uint64_t min_ram_mb = 0;
  /// JSON keys beyond or instead of the above; the value is JSON text: {"os_distro", "\"debian\""}, {"size", "null"},
  /// {"os_hash_value", "\"00…\""}. By default size, virtual_size (null), checksum (md5), os_hash_algo (sha512) and
  /// os_hash_value are worked out from the content; checksum only for content of at most 64 MiB, else null.
  std::map<std::string, std::string> json{};
};

/// How answers go wrong that have nothing to do with bytes. A field that counts is used up by requests.
struct AnswerFaults {
  std::shared_ptr<Gate> hold_head;         ///< nothing is answered until it opens
  unsigned refuse_times = 0;               ///< this many requests are answered with refuse_status
  int refuse_status = 503;                 ///< …
  std::optional<unsigned> retry_after_s;   ///< Retry-After with a refusal
  unsigned hang_up_before_head_times = 0;  ///< this many connections are closed without an answer
  std::optional<int> status;               ///< every request is answered with this status and an HTML page
  bool html_with_200 = false;              ///< a login page instead of what was asked for
  std::string redirect_to;                 ///< 302 with this Location; "self" for the path that was asked for
  std::map<std::string, int> tokens;       ///< X-Auth-Token → status: 401, 403, 404…
};

/// The answer to GET /v2/images/{id}.
struct DescribeScript : AnswerFaults {
  std::optional<std::string> raw_body;  ///< instead of the JSON
  bool endless = false;                 ///< JSON that never ends
};

struct GateAt {
  std::uint64_t offset = 0;  ///< in the image: the bytes before it have been sent, it has not
  std::shared_ptr<Gate> gate;
};

enum class RangeSupport {
  yes,
  ignored,  ///< 200 and the whole image
  refused,  ///< 400, as Glance does on stores that cannot
};

/// The answer to GET /v2/images/{id}/file. Offsets are offsets in the image, also where a range was asked for.
struct FileScript : AnswerFaults {
  std::shared_ptr<Gate> hold_authorization;  ///< the question whether one may download is not answered until it opens
  std::vector<GateAt> gates;
  std::optional<std::uint64_t> hang_up_at;  ///< the connection is closed when this byte would be next …
  unsigned hang_up_times = UINT32_MAX;      ///< … for this many requests
  bool hang_up_with_reset = false;          ///< RST instead of FIN
  std::vector<std::uint64_t> wrong_bytes;   ///< these bytes are flipped …
  unsigned wrong_bytes_times = UINT32_MAX;  ///< … in this many answers
  std::optional<std::uint64_t> end_at;      ///< the body ends here, properly: as if the image were that short …
  bool end_at_announced = true;             ///< … also in Content-Length; if not, the connection stays open, short
  bool chunked = false;                     ///< no Content-Length, as Glance does on a miss
  bool until_close = false;                 ///< neither length nor chunks: ends with the connection
  bool no_data = false;                     ///< 204
  bool endless = false;                     ///< chunked; goes on after the image's end until the client leaves
  std::uint64_t bytes_per_s = 0;            ///< 0: as fast as it goes
  RangeSupport ranges = RangeSupport::yes;
  std::int64_t content_range_shift = 0;        ///< Content-Range lies by this much
  std::map<std::string, std::string> headers;  ///< added, or instead of those of the same name
};

struct ImageScript {
  DescribeScript describe;
  FileScript file;
};

/// A request as it came.
struct SeenRequest {
  std::string method;
  std::string target;                          ///< with the query
  std::map<std::string, std::string> headers;  ///< names in lower case; of several alike the last
  std::uint64_t body_bytes = 0;
  std::string body_sha256;  ///< of the decoded body; empty if there was none
  std::string body_start;   ///< its first 64 KiB
  bool chunked = false;
  bool expected_continue = false;

  std::string header(std::string_view lower_case_name) const;
};

struct Answer {
  int status = 200;
  std::map<std::string, std::string> headers{};  ///< Content-Length is added
  std::string body{};
};

class ScriptedOrigin {
 public:
  ScriptedOrigin();
  /// Stops at once: open gates or not, every connection is closed.
  ~ScriptedOrigin();
  ScriptedOrigin(const ScriptedOrigin&) = delete;
  ScriptedOrigin& operator=(const ScriptedOrigin&) = delete;

  std::string url() const;  ///< "http://127.0.0.1:34567"
  std::uint16_t port() const;

  // What it serves.
  std::string add(ImageSpec image);  ///< returns the id; an image of that id is replaced, its script kept
  void remove(const std::string& image_id);
  void script(const std::string& image_id, const std::function<void(ImageScript&)>& change);
  void change(const std::string& image_id, const std::function<void(ImageSpec&)>& change);
  /// Requests with this token are answered so on every path; 0 takes it back.
  void answer_token(const std::string& token, int status);
  /// The answer to a request that is none of the image paths, or in place of the built-in one; `path` without query.
  void answer(const std::string& method, const std::string& path, Answer answer);
  /// Asked first, for every request, from many threads at once: an answer of its own making, or nullopt to go on as
  /// without it. It may wait at a gate with the stop. Makes another server of this one, such as a Keystone.
  using Responder = std::function<std::optional<Answer>(const SeenRequest&, const std::stop_token&)>;
  void answer_with(Responder responder);

  /// Goes away: new connections are refused and those there are closed. come_back() listens on the same port.
  void go_down();
  void come_back();

  // What has happened. A request counts when its head has been read.
  std::size_t requests() const;
  std::size_t requests(const std::string& path) const;  ///< any method, without query
  std::size_t requests(const std::string& method, const std::string& path) const;
  std::size_t describes(const std::string& image_id) const;            ///< GET /v2/images/{id}
  std::size_t downloads(const std::string& image_id) const;            ///< GET /v2/images/{id}/file, for bytes
  std::size_t authorizations(const std::string& image_id) const;       ///< … to know whether one may
  std::uint64_t body_bytes(const std::string& image_id) const;         ///< of …/file, sent or being sent
  std::vector<std::string> ranges(const std::string& image_id) const;  ///< Range headers asked, in order; "" for none
  std::optional<SeenRequest> last_request() const;                     ///< the last whose body has been read
  std::optional<SeenRequest> last_request(const std::string& method, const std::string& path) const;
  std::size_t connections() const;     ///< accepted since the start
  std::size_t max_concurrent() const;  ///< most …/file answers that were under way at once
  std::size_t downloads_under_way() const;
  /// Waits until requests(path) is at least `count`; false after `timeout`, which only a failing test meets.
  [[nodiscard]] bool wait_requests(const std::string& path, std::size_t count,
                                   std::chrono::seconds timeout = std::chrono::seconds(20)) const;
  /// Waits until no …/file answer is under way.
  [[nodiscard]] bool wait_idle(std::chrono::seconds timeout = std::chrono::seconds(20)) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// "/v2/images/{id}" and "/v2/images/{id}/file".
std::string describe_path(const std::string& image_id);
std::string file_path(const std::string& image_id);
/// Text as a JSON string, quotes included.
std::string json_string(std::string_view text);

}  // namespace imagecache::test
