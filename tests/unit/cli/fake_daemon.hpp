// A server of one thread that answers each request as the test says and remembers it.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "support/loopback.hpp"

namespace imagecache::cli {

struct SeenRequest {
  std::string line;     ///< "GET /v2/cache"
  std::string headers;  ///< as they came, each line ended by CR LF
  std::string body;
};

struct Answer {
  int status = 200;
  std::string body{};
};

class FakeDaemon {
 public:
  using Script = std::function<Answer(const SeenRequest&)>;

  explicit FakeDaemon(Script script) : script_(std::move(script)) {
    auto listener = test::listen_on_loopback();
    listener_ = std::move(listener.fd);
    address_ = "127.0.0.1:" + std::to_string(listener.port);
    start();
  }

  FakeDaemon(Script script, const std::string& unix_path) : script_(std::move(script)), address_("unix:" + unix_path) {
    listener_ = base::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    EXPECT_LT(unix_path.size(), sizeof(address.sun_path));
    unix_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << unix_path;
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    start();
  }

  ~FakeDaemon() { stop(); }
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  /// As an option of the configuration has it.
  const std::string& address() const { return address_; }
  std::vector<SeenRequest> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const auto& request : seen()) lines.push_back(request.line);
    return lines;
  }
  void stop() {
    if (listener_) ::shutdown(listener_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    listener_.reset();
  }

 private:
  void start() {
    thread_ = std::jthread([this] {
      for (;;) {
        const base::Fd client(::accept(listener_.get(), nullptr, nullptr));
        if (!client) return;
        serve(client.get());
      }
    });
  }

  void serve(int client) {
    std::string text;
    while (text.find("\r\n\r\n") == std::string::npos) {
      constexpr char tls_handshake = 0x16;
      if (!read_more(client, text) || text[0] == tls_handshake) return;  // hangs up on who wants TLS
    }
    const auto end = text.find("\r\n\r\n");
    const auto first = text.find("\r\n");
    SeenRequest request{
        .line = text.substr(0, text.rfind(' ', first)), .headers = text.substr(first + 2, end - first), .body = {}};
    std::size_t length = 0;
    constexpr std::string_view name = "content-length:";
    for (const auto& line : base::split(request.headers, '\n')) {
      if (base::to_lower(line).starts_with(name)) {
        length = base::parse_unsigned(base::trim(std::string_view(line).substr(name.size()))).value_or(0);
      }
    }
    while (text.size() < end + 4 + length) {
      if (!read_more(client, text)) return;
    }
    request.body = text.substr(end + 4, length);
    const auto answer = script_(request);
    {
      const std::lock_guard lock(mutex_);
      seen_.push_back(std::move(request));
    }
    const auto reply = "HTTP/1.1 " + std::to_string(answer.status) + " X\r\nConnection: close\r\nContent-Length: " +
                       std::to_string(answer.status == 204 ? 0 : answer.body.size()) + "\r\n\r\n" + answer.body;
    static_cast<void>(::send(client, reply.data(), reply.size(), MSG_NOSIGNAL));
  }

  static bool read_more(int client, std::string& text) {
    char buffer[4096];
    const auto n = ::recv(client, buffer, sizeof(buffer), 0);
    if (n <= 0) return false;
    text.append(buffer, static_cast<std::size_t>(n));
    return true;
  }

  const Script script_;
  std::string address_;
  base::Fd listener_;
  mutable std::mutex mutex_;
  std::vector<SeenRequest> seen_;  // protected by mutex_
  std::jthread thread_;
};

}  // namespace imagecache::cli
