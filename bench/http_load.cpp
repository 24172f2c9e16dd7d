// A client that costs as little as a client can, so that a server's limit is seen before the client's: one thread,
// epoll, and bodies dropped inside the kernel (MSG_TRUNC: no copy to user space).
//
//   http_load [--token TOKEN] [--range-of FILE_BYTES] [--tls] ADDRESS:PORT PATH CONNECTIONS EXPECTED_BYTES [SECONDS]
//
// CONNECTIONS keep-alive connections each GET PATH; every answer must be 200 with Content-Length EXPECTED_BYTES. With
// SECONDS each asks again and again until that time is over, then all hang up; without, each asks once and reads to the
// end. Prints one line of JSON: all bytes of bodies, the seconds, whole answers, and when the first body bytes and the
// ends came (first, median, last). Anything unexpected ends it with a message and 1.
//
//   --token     is sent as X-Auth-Token; each % in it is replaced by the number of the connection
//   --range-of  asks for ranges of EXPECTED_BYTES that begin anywhere in a file of FILE_BYTES: answers must be 206
//   --tls       TLS 1.3 with one cipher, so that all servers use the same. Only the head of an answer is deciphered; of
//               the body the records are counted and dropped, since deciphering costs a client what a server is to be
//               measured by. A connection is therefore good for one answer: the next one opens another.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
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
#include <memory>
#include <random>
#include <string>
#include <string_view>
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

constexpr const char* tls_cipher = "TLS_AES_128_GCM_SHA256";
constexpr std::size_t record_header_bytes = 5;
constexpr std::uint64_t record_overhead_bytes = 17;  // of TLS 1.3 with this cipher: the tag and the kind of content

struct Options {
  std::string server, path, token;
  std::uint64_t range_of_bytes = 0;  // 0: whole files
  bool tls = false;
  std::size_t connections = 1;
  std::uint64_t expected_bytes = 0;
  double seconds = 0;
};

struct FreeTls {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct Connection {
  int fd = -1;
  std::unique_ptr<SSL, FreeTls> tls{};
  std::string record{};                 // the header of the next TLS record, until it is complete
  std::uint64_t record_bytes = 0;       // of the TLS record that is being dropped
  std::uint64_t record_left_bytes = 0;  // of it, still to come
  std::string head{};                   // of the answer, until it is complete
  std::uint64_t left_bytes = 0;         // of the body
  bool in_body = false;
  bool done = false;
};

class Load {
 public:
  Load(const sockaddr_in& address, Options options) : address_(address), options_(std::move(options)) {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) die_errno("epoll_create1");
    if (!options_.tls) return;
    context_.reset(SSL_CTX_new(TLS_client_method()));
    if (!context_ || SSL_CTX_set_min_proto_version(context_.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context_.get(), tls_cipher) != 1)
      die("OpenSSL cannot be set up");
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);  // what is measured is at a port of this machine
  }

  void run() {
    const std::size_t count = options_.connections;
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
          if (options_.seconds > 0) {
            if (options_.tls) open_again(connection);
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
  bool time_is_over() const { return options_.seconds > 0 && since_start() >= options_.seconds; }

  void open(std::size_t at) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die_errno("socket");
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_) != 0) die_errno("connect");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = at}};
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die_errno("epoll_ctl");
    connections_[at].fd = fd;
    if (!options_.tls) return;
    connections_[at].tls.reset(SSL_new(context_.get()));
    if (SSL_set_fd(connections_[at].tls.get(), fd) != 1 || SSL_connect(connections_[at].tls.get()) != 1)
      die("no TLS 1.3 with " + std::string(tls_cipher));
  }

  void open_again(Connection& connection) {
    ::close(connection.fd);
    connection = Connection{};
    open(static_cast<std::size_t>(&connection - connections_.data()));
  }

  std::string request(std::size_t number) {
    std::string text = "GET " + options_.path + " HTTP/1.1\r\nHost: " + options_.server + "\r\n";
    if (!options_.token.empty()) {
      text += "X-Auth-Token: ";
      for (const char c : options_.token) text += c == '%' ? std::to_string(number) : std::string(1, c);
      text += "\r\n";
    }
    if (options_.range_of_bytes > 0) {
      std::uniform_int_distribution<std::uint64_t> anywhere(0, options_.range_of_bytes - options_.expected_bytes);
      const std::uint64_t first = anywhere(random_);
      text +=
          "Range: bytes=" + std::to_string(first) + "-" + std::to_string(first + options_.expected_bytes - 1) + "\r\n";
    }
    return text + "\r\n";
  }

  void ask(Connection& connection) {
    const std::string text = request(static_cast<std::size_t>(&connection - connections_.data()));
    const auto sent = connection.tls ? SSL_write(connection.tls.get(), text.data(), static_cast<int>(text.size()))
                                     : ::send(connection.fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(text.size())) die_errno("send");
  }

  /// What is there now; true at the end of an answer.
  bool read(Connection& connection) {
    if (!connection.in_body && !read_head(connection)) return false;
    for (int turn = 0; turn < 64 && connection.left_bytes > 0; ++turn) {  // then it is the others' turn
      if (connection.tls && connection.record_left_bytes == 0 && !read_record_header(connection)) return false;
      const auto there = connection.tls ? connection.record_left_bytes : connection.left_bytes;
      const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(there, 64 << 20));
      const ssize_t n = ::recv(connection.fd, nullptr, want, MSG_TRUNC | MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
      if (n < 0) die_errno("recv");
      if (n == 0) die("the server hung up with " + std::to_string(connection.left_bytes) + " bytes to come");
      if (!connection.tls) {
        take(connection, static_cast<std::uint64_t>(n));
        break;
      }
      connection.record_left_bytes -= static_cast<std::uint64_t>(n);
      if (connection.record_left_bytes == 0) take(connection, connection.record_bytes - record_overhead_bytes);
    }
    if (connection.left_bytes > 0) return false;
    connection.in_body = false;
    return true;
  }

  bool read_record_header(Connection& connection) {
    std::array<char, record_header_bytes> buffer;
    const ssize_t n = ::recv(connection.fd, buffer.data(), buffer.size() - connection.record.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) die("the server hung up with " + std::to_string(connection.left_bytes) + " bytes to come");
    connection.record.append(buffer.data(), static_cast<std::size_t>(n));
    if (connection.record.size() < record_header_bytes) return false;
    const auto byte = [&](std::size_t at) {
      return static_cast<std::uint64_t>(static_cast<unsigned char>(connection.record[at]));
    };
    connection.record_bytes = connection.record_left_bytes = byte(3) << 8 | byte(4);
    if (byte(0) != 23 || connection.record_bytes <= record_overhead_bytes ||
        connection.record_bytes - record_overhead_bytes > connection.left_bytes)
      die("a TLS record that is no part of the body");
    connection.record.clear();
    return true;
  }

  void take(Connection& connection, std::uint64_t n) {
    if (connection.left_bytes == options_.expected_bytes && n > 0) firsts_.push_back(since_start());
    connection.left_bytes -= n;
    bytes_ += n;
  }

  /// Copies while the head is not complete: a few hundred bytes, and what of the body came with them.
  bool read_head(Connection& connection) {
    std::array<char, 4096> buffer;
    // By TLS the socket blocks, for the rest of a record whose first bytes are there.
    const ssize_t n = connection.tls ? SSL_read(connection.tls.get(), buffer.data(), static_cast<int>(buffer.size()))
                                     : ::recv(connection.fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (!connection.tls && n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (!connection.tls && n < 0) die_errno("recv");
    if (n <= 0) die("the server hung up without an answer");
    connection.head.append(buffer.data(), static_cast<std::size_t>(n));
    while (connection.tls && SSL_pending(connection.tls.get()) > 0) {
      const int more = SSL_read(connection.tls.get(), buffer.data(), static_cast<int>(buffer.size()));
      if (more <= 0) die("the server hung up without an answer");
      connection.head.append(buffer.data(), static_cast<std::size_t>(more));
    }
    const auto end = connection.head.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const auto body_bytes = connection.head.size() - end - 4;
    check_head(connection.head.substr(0, end + 2));
    connection.head.clear();
    connection.in_body = true;
    connection.left_bytes = options_.expected_bytes;
    if (body_bytes > options_.expected_bytes) die("more bytes than the length that was said");
    take(connection, body_bytes);
    return true;
  }

  void check_head(std::string head) const {
    if (!head.starts_with(options_.range_of_bytes > 0 ? "HTTP/1.1 206" : "HTTP/1.1 200"))
      die("answer: " + head.substr(0, head.find('\r')));
    std::ranges::transform(head, head.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (head.find("\r\ncontent-length: " + std::to_string(options_.expected_bytes) + "\r\n") == std::string::npos)
      die("no Content-Length: " + std::to_string(options_.expected_bytes) + " in the answer:\n" + head);
  }

  void report() {
    std::ranges::sort(firsts_);
    std::ranges::sort(ends_);
    const auto median = [](const std::vector<double>& v) { return v.empty() ? 0.0 : v[v.size() / 2]; };
    std::printf(
        "{\"bytes\": %llu, \"seconds\": %.6f, \"answers\": %llu, \"first_byte_first_s\": %.6f, "
        "\"first_byte_median_s\": %.6f, "
        "\"first_byte_last_s\": %.6f, \"end_median_s\": %.6f, \"end_last_s\": %.6f}\n",
        static_cast<unsigned long long>(bytes_), last_byte_, static_cast<unsigned long long>(whole_),
        firsts_.empty() ? 0.0 : firsts_.front(), median(firsts_), firsts_.empty() ? 0.0 : firsts_.back(), median(ends_),
        ends_.empty() ? 0.0 : ends_.back());
  }

  const sockaddr_in address_;
  const Options options_;
  std::unique_ptr<SSL_CTX, FreeTls> context_;
  std::mt19937_64 random_{1};
  int epoll_ = -1;
  std::vector<Connection> connections_;
  Clock::time_point begun_;
  std::uint64_t bytes_ = 0, whole_ = 0;
  double last_byte_ = 0;
  std::vector<double> firsts_, ends_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--tls") {
      options.tls = true;
    } else if (word == "--token" && i + 1 < argc) {
      options.token = argv[++i];
    } else if (word == "--range-of" && i + 1 < argc) {
      options.range_of_bytes = std::strtoull(argv[++i], nullptr, 10);
    } else {
      words.emplace_back(word);
    }
  }
  if (words.size() < 4 || words.size() > 5 || words.front().starts_with("-")) {
    std::fprintf(stderr,
                 "usage: http_load [--token TOKEN] [--range-of FILE_BYTES] [--tls] ADDRESS:PORT PATH CONNECTIONS "
                 "EXPECTED_BYTES [SECONDS]\n");
    return 2;
  }
  options.server = words[0];
  options.path = words[1];
  options.connections = static_cast<std::size_t>(std::max(1, std::atoi(words[2].c_str())));
  options.expected_bytes = std::strtoull(words[3].c_str(), nullptr, 10);
  options.seconds = words.size() > 4 ? std::atof(words[4].c_str()) : 0;
  if (options.range_of_bytes > 0 && options.range_of_bytes < options.expected_bytes) die("ranges longer than the file");
  const auto colon = options.server.find(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      ::inet_pton(AF_INET, options.server.substr(0, colon).c_str(), &address.sin_addr) != 1)
    die("'" + options.server + "' is not ADDRESS:PORT");
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(options.server.c_str() + colon + 1)));
  Load(address, std::move(options)).run();
  return 0;
}
