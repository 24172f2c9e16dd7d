// Asks a running daemon for volumes and says how long each took; in C++ so that the client's own time does not show.
//
//   create_load hook ADDRESS:PORT IMAGE_ID SIZE_GB BACKEND COUNT THREADS   PUT /v1/hook/volumes/{id}: answers when
//   durable create_load post ADDRESS:PORT IMAGE_ID SIZE_GB BACKEND COUNT THREADS   POST /v3/…/volumes, then GET until
//   `available`
//
// Each thread has one keep-alive connection. SEEN in the environment is what the hook is told of the image besides its
// id, as members of a JSON object. Then all volumes are deleted (not timed), unless KEEP is set in the environment.
// Prints one line of JSON: wall seconds, and the milliseconds of each create in the order they began.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "create_load: %s\n", what.c_str());
  std::_Exit(1);
}

class Client {
 public:
  explicit Client(const std::string& server) : server_(server) {
    const auto colon = server.find(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(server.c_str() + colon + 1)));
    if (colon == std::string::npos || ::inet_pton(AF_INET, server.substr(0, colon).c_str(), &address.sin_addr) != 1)
      die("'" + server + "' is not ADDRESS:PORT");
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0 || ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      die("connect " + server + ": " + std::strerror(errno));
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// The body of the answer, which must have this status.
  std::string ask(const std::string& method, const std::string& path, const std::string& body, int status) {
    const std::string request = method + " " + path + " HTTP/1.1\r\nHost: " + server_ +
                                "\r\nX-Auth-Token: bench:bench\r\nContent-Type: application/json\r\nContent-Length: " +
                                std::to_string(body.size()) + "\r\n\r\n" + body;
    if (::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) die("send");
    std::string answer;
    std::size_t end = 0, whole = 0;
    while (whole == 0 || answer.size() < whole) {
      std::array<char, 16384> buffer;
      const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (n <= 0) die(method + " " + path + ": the server hung up");
      answer.append(buffer.data(), static_cast<std::size_t>(n));
      if (whole == 0 && (end = answer.find("\r\n\r\n")) != std::string::npos) {
        std::string head = answer.substr(0, end + 2);
        std::ranges::transform(head, head.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const auto length = head.find("\r\ncontent-length: ");
        whole = end + 4 + (length == std::string::npos ? 0 : std::strtoul(head.c_str() + length + 18, nullptr, 10));
      }
    }
    if (std::atoi(answer.c_str() + 9) != status) die(method + " " + path + ": " + answer);
    return answer.substr(end + 4);
  }

 private:
  const std::string server_;
  int fd_ = -1;
};

std::string new_uuid() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::array<char, 40> text;
  const std::uint64_t a = random(), b = random();
  std::snprintf(text.data(), text.size(), "%08x-%04x-4%03x-a%03x-%012llx", static_cast<unsigned>(a >> 32),
                static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
                static_cast<unsigned>(b >> 48 & 0xfff), static_cast<unsigned long long>(b & 0xffffffffffff));
  return text.data();
}

/// The value of "name": "…"; the API's JSON needs no more of a parser here.
std::string text_member(const std::string& json, const std::string& name) {
  auto at = json.find("\"" + name + "\"");
  if (at == std::string::npos) die("no " + name + " in " + json);
  at = json.find('"', json.find(':', at)) + 1;
  return json.substr(at, json.find('"', at) - at);
}

struct Job {
  std::string mode, server, image_id, size_gb, backend, seen;
};

std::string create(Client& client, const Job& job) {
  if (job.mode == "hook") {
    const std::string id = new_uuid();
    client.ask("PUT", "/v1/hook/volumes/" + id,
               "{\"backend\": \"" + job.backend + "\", \"name\": \"volume-" + id + "\", \"size_gb\": " + job.size_gb +
                   ", \"image_id\": \"" + job.image_id + "\"" + job.seen + "}",
               200);
    return id;
  }
  const std::string answer = client.ask(
      "POST", "/v3/bench/volumes",
      "{\"volume\": {\"size\": " + job.size_gb + ", \"imageRef\": \"" + job.image_id + "\", \"name\": \"bench\"}}",
      202);
  const std::string id = text_member(answer, "id");
  for (;;) {
    const std::string now = client.ask("GET", "/v3/bench/volumes/" + id, "", 200);
    const std::string status = text_member(now, "status");
    if (status == "available") return id;
    if (status == "error") die("volume " + id + " ended in error: " + now);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8 || (std::strcmp(argv[1], "hook") != 0 && std::strcmp(argv[1], "post") != 0)) {
    std::fprintf(stderr, "usage: create_load hook|post ADDRESS:PORT IMAGE_ID SIZE_GB BACKEND COUNT THREADS\n");
    return 2;
  }
  const char* const seen = std::getenv("SEEN");
  const Job job{argv[1], argv[2], argv[3], argv[4], argv[5], seen == nullptr ? "" : std::string(", ") + seen};
  const auto count = static_cast<std::size_t>(std::max(1, std::atoi(argv[6])));
  const int threads = std::max(1, std::atoi(argv[7]));
  std::vector<double> times_ms(count);
  std::vector<std::string> ids(count);
  std::atomic<std::size_t> next = 0;
  const auto begun = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&] {
        Client client(job.server);
        for (std::size_t i; (i = next++) < count;) {
          const auto start = std::chrono::steady_clock::now();
          ids[i] = create(client, job);
          times_ms[i] = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        }
      });
    }
  }
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (std::getenv("KEEP") == nullptr) {
    Client client(job.server);
    for (const auto& id : ids) {
      if (job.mode == "hook") {
        client.ask("DELETE", "/v1/hook/volumes/" + id, "", 204);
      } else {
        client.ask("DELETE", "/v3/bench/volumes/" + id, "", 202);
      }
    }
  }
  std::printf("{\"wall_s\": %.6f, \"times_ms\": [", wall);
  for (std::size_t i = 0; i < count; ++i) std::printf("%s%.4f", i == 0 ? "" : ", ", times_ms[i]);
  std::printf("]}\n");
  return 0;
}
