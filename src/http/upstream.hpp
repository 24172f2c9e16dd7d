// Connections to upstreams: made, secured, kept a while for the next request. Private to the room.
//
// A kept connection stays on the executor that made it. One list for a server, under a lock that is held for moments;
// per executor one Task that drops what was not used in time, as long as there is something to drop.
#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "http/head.hpp"
#include "http/tls.hpp"
#include "http/transport.hpp"

namespace imagecache::http {

struct UpstreamConnection {
  explicit UpstreamConnection(Socket socket) : transport(std::move(socket)) {}
  Transport transport;
  boost::beast::flat_buffer buffer{1 << 20};  // what came of answers and is not parsed yet
  bool reused = false;
  bool stale = false;  // it ended before a byte of the answer, as a kept one may at any time
};
using UpstreamPtr = std::unique_ptr<UpstreamConnection>;

class Upstreams {
 public:
  Upstreams(UpstreamTls tls, const Limits& limits);

  /// A kept connection of this executor that seems alive, if any.
  UpstreamPtr take(const Url& url, const base::Executor& executor);
  /// One that is not connected yet, so that the caller can abort what connect() does with it.
  static UpstreamPtr make(const base::Executor& executor);
  base::Task<Result<void>> connect(UpstreamConnection& connection, const Url& url);
  /// For the next request; the last answer must have been read to its end.
  void keep(const Url& url, UpstreamPtr connection);

  /// The certificates and keys anew, for connections from now on.
  Result<void> reload_tls();
  /// Drops what is kept, each on its own executor, and keeps no more. To be done before the event loops go.
  base::Task<void> close();

 private:
  using Key = std::pair<const void*, std::string>;  // the executor's event loop and the URL without path
  struct Kept {
    base::Deadline until{};
    UpstreamPtr connection;
  };
  static Key key(const Url& url, const base::Executor& executor);
  base::Task<void> reap(const void* loop);

  const Limits& limits_;
  UpstreamTlsContext tls_;
  std::mutex mutex_;
  // Protected by mutex_.
  std::map<Key, std::vector<Kept>> kept_;
  std::set<const void*> reaping_;  // event loops that have a reap()
  bool closed_ = false;

  base::Signal closing_;
  base::TaskGroup reapers_;
};

}  // namespace imagecache::http
