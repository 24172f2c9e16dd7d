#include "support/http_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"

namespace imagecache::test {

HttpClient::HttpClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval limit{.tv_sec = 60, .tv_usec = 0};  // which only a failing test meets
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fd_.reset();
}

bool HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void HttpClient::half_close() {
  ::shutdown(fd_.get(), SHUT_WR);
}

bool HttpClient::fill() {
  std::array<char, 65536> part{};
  const ssize_t n = ::recv(fd_.get(), part.data(), part.size(), 0);
  if (n <= 0) return false;
  buffer_.append(part.data(), static_cast<std::size_t>(n));
  return true;
}

std::optional<std::string> HttpClient::read_line() {
  for (;;) {
    const auto end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return line;
    }
    if (!fill()) return std::nullopt;
  }
}

HttpAnswer HttpClient::read_head() {
  HttpAnswer answer;
  left_.reset();
  chunked_ = until_close_ = ended_ = false;
  chunk_left_ = 0;
  const auto status = read_line();
  if (!status || status->size() < 12) return answer;
  answer.status = std::stoi(status->substr(9, 3));
  while (auto line = read_line()) {
    if (line->empty()) break;
    const auto colon = line->find(':');
    answer.headers[base::to_lower(line->substr(0, colon))] = base::trim(line->substr(colon + 1));
  }
  if (const auto length = base::parse_unsigned(answer.header("content-length"))) {
    left_ = *length;
  } else if (answer.header("transfer-encoding") == "chunked") {
    chunked_ = true;
  } else {
    until_close_ = answer.status != 204 && answer.status != 304 && answer.status >= 200;
  }
  if (head_only_) {
    left_ = 0;
    chunked_ = until_close_ = false;
  }
  return answer;
}

std::string HttpClient::take(std::uint64_t count) {
  if (buffer_.empty() && !fill()) return {};
  const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(count, buffer_.size()));
  std::string taken = buffer_.substr(0, n);
  buffer_.erase(0, n);
  return taken;
}

std::string HttpClient::read_body(HttpAnswer& answer, std::uint64_t limit) {
  std::string body;
  while (body.size() < limit && !ended_) {
    std::uint64_t want = limit - body.size();
    if (chunked_ && chunk_left_ == 0) {
      const auto line = read_line();
      if (!line) break;
      chunk_left_ = std::stoull(*line, nullptr, 16);
      if (chunk_left_ == 0) {
        answer.complete = read_line().has_value();
        ended_ = true;
        break;
      }
    }
    if (chunked_) want = std::min(want, chunk_left_);
    if (left_) {
      if (*left_ == 0) {
        answer.complete = ended_ = true;
        break;
      }
      want = std::min(want, *left_);
    }
    if (!chunked_ && !left_ && !until_close_) {
      answer.complete = ended_ = true;
      break;
    }
    const std::string part = take(want);
    if (part.empty()) {
      answer.complete = until_close_;
      ended_ = true;
      break;
    }
    body += part;
    if (left_) *left_ -= part.size();
    if (chunked_) {
      chunk_left_ -= part.size();
      if (chunk_left_ == 0) read_line();
    }
  }
  if (left_ && *left_ == 0) answer.complete = true;
  return body;
}

HttpAnswer HttpClient::request(std::string_view method, std::string_view target,
                               const std::vector<std::string>& headers, std::string_view body) {
  std::string head = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: test\r\n";
  for (const auto& header : headers) head += header + "\r\n";
  if (!body.empty()) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  head_only_ = method == "HEAD";
  send(head + "\r\n" + std::string(body));
  HttpAnswer answer = read_head();
  if (answer.status != 0) answer.body = read_body(answer);
  return answer;
}

HttpAnswer http(std::uint16_t port, std::string_view method, std::string_view target,
                const std::vector<std::string>& headers, std::string_view body) {
  return HttpClient(port).request(method, target, headers, body);
}

}  // namespace imagecache::test
