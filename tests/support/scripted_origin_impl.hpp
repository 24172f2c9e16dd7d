// The inside of the scripted origin: its network is in scripted_origin.cpp, what it answers in
// scripted_origin_answers.cpp.
#pragma once

#include <list>
#include <thread>

#include "base/digest.hpp"
#include "base/fd.hpp"
#include "support/scripted_origin.hpp"

namespace imagecache::test {

inline constexpr std::size_t max_head_bytes = 64 << 10;
/// How one asks whether one may download: no image is that long.
inline constexpr std::string_view authorization_range = "bytes=9223372036854775806-";

/// Bytes [first, end) of an image, or the status that a range is refused with.
struct Range {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  int error = 0;
};

class ScriptedOrigin::Impl {
 public:
  Impl() { listen(0); }
  ~Impl() { go_down(); }

  struct Image {
    ImageSpec spec;
    bool there = false;
    ImageScript script;
    std::vector<std::string> ranges;
    std::uint64_t body_bytes = 0;
  };
  /// One client's connection and the thread that serves it.
  struct Connection {
    base::Fd fd;         // closed by its own thread, with mutex_ held, so that nobody shuts down another's number
    std::string buffer;  // received and not used yet
    std::stop_token stop;
    bool done = false;  // protected by mutex_
    std::jthread thread;
  };

  void listen(std::uint16_t port);
  void go_down();
  void accept_loop();
  void serve(Connection& c);

  // Reading.
  bool fill(Connection& c);
  bool read_head(Connection& c, SeenRequest& request);
  bool read_body(Connection& c, SeenRequest& request);
  bool read_line(Connection& c, std::string& line);
  bool take(Connection& c, std::uint64_t count, SeenRequest& request, base::Digest& digest);

  // Answering; all return whether the connection goes on.
  bool respond(Connection& c, const SeenRequest& request);
  bool send(Connection& c, std::string_view bytes);
  bool send(Connection& c, const SeenRequest& request, Answer answer);
  bool send_endless_json(Connection& c);
  std::optional<bool> faults(Connection& c, const SeenRequest& request, const std::string& id, bool file);
  bool describe(Connection& c, const SeenRequest& request, const std::string& id);
  bool download(Connection& c, const SeenRequest& request, const std::string& id);
  bool send_file(Connection& c, const std::string& id, const Content& content, const FileScript& script, Range range,
                 bool chunked, bool wrong);
  Answer built_in(const SeenRequest& request, const std::string& path);

  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  // All below is protected by mutex_.
  std::map<std::string, Image> images_;
  std::map<std::string, int> tokens_;
  std::map<std::pair<std::string, std::string>, Answer> answers_;
  Responder responder_;
  std::map<std::pair<std::string, std::string>, std::size_t> counts_;
  std::map<std::string, std::size_t> asked_;  // by path: authorizations
  std::map<std::pair<std::string, std::string>, SeenRequest> last_by_path_;
  std::optional<SeenRequest> last_;
  std::size_t accepted_ = 0;
  std::size_t under_way_ = 0;
  std::size_t most_under_way_ = 0;
  std::uint16_t port_ = 0;
  base::Fd listener_;
  std::list<std::unique_ptr<Connection>> connections_;
  std::jthread acceptor_;
};

inline std::string path_of(const SeenRequest& request) {
  return request.target.substr(0, request.target.find('?'));
}

}  // namespace imagecache::test
