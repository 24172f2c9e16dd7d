// A client that costs as little as a client can, so that a server's limit is seen before the client's: one thread,
// epoll, and bodies dropped inside the kernel (MSG_TRUNC: no copy to user space).
//
//   http_load ADDRESS:PORT PATH CONNECTIONS EXPECTED_BYTES [SECONDS]
//
// CONNECTIONS keep-alive connections each GET PATH; every answer must be 200 with Content-Length EXPECTED_BYTES. With
// SECONDS each asks again and again until that time is over, then all hang up; without, each asks once and reads to the
// end. Prints one line of JSON: all bytes of bodies, the seconds, whole answers, and when the first body bytes and the
// ends came (median, last). Anything unexpected ends it with a message and 1.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "http_load: %s\n", what.c_str());
  std::exit(1);
}
[[noreturn]] void die_errno(const std::string& what) {
  die(what + ": " + std::strerror(errno));
}

struct Connection {
  int fd = -1;
  std::string head{};            // of the answer, until it is complete
  std::uint64_t left_bytes = 0;  // of the body
  bool in_body = false;
  bool done = false;
};

class Load {
 public:
  Load(const sockaddr_in& address, std::string request, std::uint64_t expected_bytes, double seconds)
      : address_(address), request_(std::move(request)), expected_bytes_(expected_bytes), seconds_(seconds) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) die_errno("epoll_create1");
  }

  void run(std::size_t count) {
    connections_.resize(count);
    for (std::size_t i = 0; i < count; ++i) open(i);
    begun_ = Clock::now();
    for (auto& connection : connections_) ask(connection);
    std::array<epoll_event, 256> events;
    std::size_t left = count;
    while (left > 0 && !time_is_over()) {
      const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 100);
      if (ready < 0 && errno != EINTR) die_errno("epoll_wait");
      for (int i = 0; i < ready; ++i) {
        auto& connection = connections_[events[static_cast<std::size_t>(i)].data.u64];
        if (!connection.done && read(connection)) {
          ++whole_;
          ends_.push_back(since_start());
          if (seconds_ > 0) {
            ask(connection);
          } else {
            connection.done = true;
            --left;
          }
        }
      }
      last_byte_ = since_start();
    }
    report();
  }

 private:
  double since_start() const { return std::chrono::duration<double>(Clock::now() - begun_).count(); }
  bool time_is_over() const { return seconds_ > 0 && since_start() >= seconds_; }

  void open(std::size_t at) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die_errno("socket");
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_) != 0) die_errno("connect");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = at}};
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die_errno("epoll_ctl");
    connections_[at].fd = fd;
  }

  void ask(Connection& connection) {
    if (::send(connection.fd, request_.data(), request_.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request_.size()))
      die_errno("send");
  }

  /// What is there now; true at the end of an answer.
  bool read(Connection& connection) {
    if (!connection.in_body && !read_head(connection)) return false;
    if (connection.left_bytes > 0) {
      const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(connection.left_bytes, 64 << 20));
      const ssize_t n = ::recv(connection.fd, nullptr, want, MSG_TRUNC | MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
      if (n < 0) die_errno("recv");
      if (n == 0) die("the server hung up with " + std::to_string(connection.left_bytes) + " bytes to come");
      take(connection, static_cast<std::uint64_t>(n));
    }
    if (connection.left_bytes > 0) return false;
    connection.in_body = false;
    return true;
  }

  void take(Connection& connection, std::uint64_t n) {
    if (connection.left_bytes == expected_bytes_ && n > 0) firsts_.push_back(since_start());
    connection.left_bytes -= n;
    bytes_ += n;
  }

  /// Copies while the head is not complete: a few hundred bytes, and what of the body came with them.
  bool read_head(Connection& connection) {
    std::array<char, 4096> buffer;
    const ssize_t n = ::recv(connection.fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n < 0) die_errno("recv");
    if (n == 0) die("the server hung up without an answer");
    connection.head.append(buffer.data(), static_cast<std::size_t>(n));
    const auto end = connection.head.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const auto body_bytes = connection.head.size() - end - 4;
    check_head(connection.head.substr(0, end + 2));
    connection.head.clear();
    connection.in_body = true;
    connection.left_bytes = expected_bytes_;
    if (body_bytes > expected_bytes_) die("more bytes than the length that was said");
    take(connection, body_bytes);
    return true;
  }

  void check_head(std::string head) const {
    if (!head.starts_with("HTTP/1.1 200")) die("answer: " + head.substr(0, head.find('\r')));
    std::ranges::transform(head, head.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (head.find("\r\ncontent-length: " + std::to_string(expected_bytes_) + "\r\n") == std::string::npos)
      die("no Content-Length: " + std::to_string(expected_bytes_) + " in the answer:\n" + head);
  }

  void report() {
    std::ranges::sort(firsts_);
    std::ranges::sort(ends_);
    const auto median = [](const std::vector<double>& v) { return v.empty() ? 0.0 : v[v.size() / 2]; };
    std::printf(
        "{\"bytes\": %llu, \"seconds\": %.6f, \"answers\": %llu, \"first_byte_median_s\": %.6f, "
        "\"first_byte_last_s\": %.6f, \"end_median_s\": %.6f, \"end_last_s\": %.6f}\n",
        static_cast<unsigned long long>(bytes_), last_byte_, static_cast<unsigned long long>(whole_), median(firsts_),
        firsts_.empty() ? 0.0 : firsts_.back(), median(ends_), ends_.empty() ? 0.0 : ends_.back());
  }

  const sockaddr_in address_;
  const std::string request_;
  const std::uint64_t expected_bytes_;
  const double seconds_;
  int epoll_ = -1;
  std::vector<Connection> connections_;
  Clock::time_point begun_;
  std::uint64_t bytes_ = 0, whole_ = 0;
  double last_byte_ = 0;
  std::vector<double> firsts_, ends_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: http_load ADDRESS:PORT PATH CONNECTIONS EXPECTED_BYTES [SECONDS]\n");
    return 2;
  }
  const std::string server = argv[1];
  const auto colon = server.find(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(server.c_str() + colon + 1)));
  if (colon == std::string::npos || ::inet_pton(AF_INET, server.substr(0, colon).c_str(), &address.sin_addr) != 1)
    die("'" + server + "' is not ADDRESS:PORT");
  Load load(address, "GET " + std::string(argv[2]) + " HTTP/1.1\r\nHost: " + server + "\r\n\r\n",
            std::strtoull(argv[4], nullptr, 10), argc > 5 ? std::atof(argv[5]) : 0);
  load.run(static_cast<std::size_t>(std::max(1, std::atoi(argv[3]))));
  return 0;
}
