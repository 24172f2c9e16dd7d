// An HTTP server that answers each request with exactly the text that the test gives, and counts what it sees.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "support/loopback.hpp"

namespace imagecache::origin {

/// A head and a body of announced length.
inline std::string answer(const std::string& status, const std::string& headers, const std::string& body) {
  return "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body;
}

class RawServer {
 public:
  /// `head` is the request's, its lines ended by CR LF. An answer that begins with "close:" is sent without that word
  /// and the connection closed; one that begins with "flood:" is followed by bytes until the client leaves.
  using Script = std::function<std::string(const std::string& head)>;

  explicit RawServer(Script script) : script_(std::move(script)) {
    auto listener = test::listen_on_loopback();
    listener_ = std::move(listener.fd);
    url_ = "http://127.0.0.1:" + std::to_string(listener.port);
    acceptor_ = std::jthread([this](const std::stop_token& stop) { accept_all(stop); });
  }

  ~RawServer() {
    acceptor_.request_stop();
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    connection_threads_.clear();
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  const std::string& url() const { return url_; }
  unsigned connections() const { return connections_; }
  std::vector<std::string> heads() const {
    const std::lock_guard lock(mutex_);
    return heads_;
  }
  /// Of each request, "" where it had none.
  std::vector<std::string> bodies() const {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }
  /// Until all clients have gone; false after 20 s, which only a failing test meets.
  bool wait_no_open_connection(unsigned but = 0) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return open_ <= but; });
  }

 private:
  void accept_all(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      base::Fd client(::accept(listener_.get(), nullptr, nullptr));
      if (!client) return;
      ++connections_;
      {
        const std::lock_guard lock(mutex_);
        ++open_;
      }
      connection_threads_.emplace_back([this, fd = std::move(client)](const std::stop_token& ended) mutable {
        converse(fd.get(), ended);
        fd.reset();
        const std::lock_guard lock(mutex_);
        --open_;
        changed_.notify_all();
      });
    }
  }

  static bool wait_readable(int fd, const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
      if (::poll(&waited, 1, 50) != 0) return true;
    }
    return false;
  }

  void converse(int fd, const std::stop_token& stop) {
    std::string text;
    for (;;) {
      const auto end = text.find("\r\n\r\n");
      if (end == std::string::npos) {
        char buffer[4096];
        if (!wait_readable(fd, stop)) return;
        const auto n = ::recv(fd, buffer, sizeof(buffer), 0);
        if (n <= 0) return;
        text.append(buffer, static_cast<std::size_t>(n));
        continue;
      }
      const std::string head = text.substr(0, end + 2);
      text.erase(0, end + 4);
      if (head.find("Expect: 100-continue") != std::string::npos) send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n");
      std::size_t body_bytes = 0;
      if (const auto length = head.find("Content-Length: "); length != std::string::npos)
        body_bytes = std::stoul(head.substr(length + 16));
      while (text.size() < body_bytes) {
        char buffer[65536];
        if (!wait_readable(fd, stop)) return;
        const auto n = ::recv(fd, buffer, sizeof(buffer), 0);
        if (n <= 0) return;
        text.append(buffer, static_cast<std::size_t>(n));
      }
      {
        const std::lock_guard lock(mutex_);
        heads_.push_back(head);
        bodies_.push_back(text.substr(0, body_bytes));
      }
      text.erase(0, body_bytes);
      std::string reply = script_(head);
      const bool close = reply.starts_with("close:");
      const bool flood = reply.starts_with("flood:");
      if (close || flood) reply.erase(0, 6);
      if (!send_all(fd, reply)) return;
      if (close) return;
      const std::string more(1 << 16, 'x');
      while (flood && !stop.stop_requested() && send_all(fd, more)) {
      }
      if (flood) return;
    }
  }

  static bool send_all(int fd, std::string_view text) {
    while (!text.empty()) {
      const auto n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  const Script script_;
  std::string url_;
  base::Fd listener_;
  std::atomic<unsigned> connections_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  unsigned open_ = 0;                             // protected by mutex_
  std::vector<std::string> heads_;                // protected by mutex_
  std::vector<std::string> bodies_;               // protected by mutex_
  std::vector<std::jthread> connection_threads_;  // of the acceptor's thread alone, until it has ended
  std::jthread acceptor_;
};

}  // namespace imagecache::origin
