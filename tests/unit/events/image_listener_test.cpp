// What Glance tells, as it tells it and as it does not; and a bus that a test holds, breaks and lets go.
#include "events/image_listener.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include <fstream>
#include <future>

#include "base/fd.hpp"
#include "events/rabbit.hpp"

namespace imagecache::events {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

constexpr const char* id = "b8a4849c-1537-4574-badd-90de38482b5a";

bool eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

std::string message(const std::string& event, const std::string& payload) {
  return R"({"message_id": "m", "publisher_id": "image.host", "event_type": ")" + event +
         R"(", "priority": "INFO", "payload": )" + payload + "}";
}

std::string enveloped(std::string inside) {
  for (std::size_t at = 0; (at = inside.find('"', at)) != std::string::npos; at += 2) inside.insert(at, "\\");
  return R"({"oslo.version": "2.0", "oslo.message": ")" + inside + "\"}";
}

std::string of_image(const std::string& event) {
  return message(event, R"({"id": ")" + std::string(id) + R"(", "status": "active"})");
}

TEST(ImageHint, IsReadOfBothWireFormats) {
  for (const std::string& body : {of_image("image.delete"), enveloped(of_image("image.delete"))}) {
    const auto hint = image_hint_of(body);
    ASSERT_TRUE(hint) << body;
    EXPECT_EQ(hint->image_id, id);
    EXPECT_TRUE(hint->deleted);
  }
  for (const char* event : {"image.update", "image.deactivate", "image.reactivate"}) {
    const auto hint = image_hint_of(of_image(event));
    ASSERT_TRUE(hint) << event;
    EXPECT_FALSE(hint->deleted) << event;
  }
  const auto member = image_hint_of(
      message("image.member.delete", R"({"member_id": "p", "image_id": "B8A4849C-1537-4574-badd-90de38482b5a"})"));
  ASSERT_TRUE(member);
  EXPECT_EQ(member->image_id, id);
}

TEST(ImageHint, IsNothingElse) {
  const std::string whole = enveloped(of_image("image.delete"));
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(image_hint_of(std::string_view(whole).substr(0, length))) << length;
  for (const std::string& body :
       {std::string("null"), std::string("[]"), std::string("{}"), std::string(100'000, '['), of_image("image.create"),
        of_image("image.send"), of_image("compute.instance.delete"), message("image.delete", "null"),
        message("image.delete", R"({"id": 7})"), message("image.delete", R"({"id": "../../etc/passwd"})"),
        message("image.member.delete", R"({"id": "b8a4849c-1537-4574-badd-90de38482b5a"})"),
        std::string(R"({"oslo.message": {"event_type": "image.delete"}})"), enveloped("[]"),
        message("image.delete",
                R"({"id": ")" + std::string(id) + R"(", "more": ")" + std::string(2 << 20, 'x') + "\"}")})
    EXPECT_FALSE(image_hint_of(body)) << body.substr(0, 100);
}

/// What a test sees of the bus, and does to it. Outlives the listener.
struct Stage {
  std::mutex mutex;
  std::condition_variable changed;
  // Protected by mutex.
  bool up = true;
  bool aborted = false;
  unsigned connects = 0, failed_connects = 0;
  std::vector<std::string> bodies;

  void set(const std::function<void(Stage&)>& change) {
    const std::lock_guard lock(mutex);
    change(*this);
    changed.notify_all();
  }
  template <class T>
  T get(T Stage::* what) {
    const std::lock_guard lock(mutex);
    return this->*what;
  }
};

class StagedSubscription final : public Subscription {
 public:
  explicit StagedSubscription(Stage& stage) : stage_(stage) {}
  Result<void> connect() override {
    const std::lock_guard lock(stage_.mutex);
    ++(stage_.up ? stage_.connects : stage_.failed_connects);
    if (!stage_.up) return fail(Errc::unavailable, "staged: down");
    return {};
  }
  Result<std::vector<std::string>> wait(milliseconds) override {
    std::unique_lock lock(stage_.mutex);
    // For as long as it takes: a stop must not wait for it.
    stage_.changed.wait(lock, [&] { return stage_.aborted || !stage_.up || !stage_.bodies.empty(); });
    if (stage_.aborted || !stage_.up) return fail(Errc::unavailable, "staged: gone");
    return std::exchange(stage_.bodies, {});
  }
  void disconnect() override {}
  void wake() override {}
  void abort() override {
    stage_.set([](Stage& stage) { stage.aborted = true; });
  }
  std::string name() const override { return "staged"; }

 private:
  Stage& stage_;
};

class ImageListening : public ::testing::Test {
 protected:
  void start() {
    listener_ = std::make_unique<ImageListener>(
        Backoff::Options{.interval = milliseconds(1), .growth = milliseconds(1), .max = milliseconds(1)},
        std::make_unique<StagedSubscription>(stage_), counters_, [this](const ImageHint& hint) {
          const std::lock_guard lock(mutex_);
          heard_.push_back(hint.image_id + (hint.deleted ? " deleted" : ""));
        });
  }
  void tell(const std::string& body) {
    stage_.set([&](Stage& stage) { stage.bodies.push_back(body); });
  }
  std::vector<std::string> heard() {
    const std::lock_guard lock(mutex_);
    return heard_;
  }

  Stage stage_;
  Counters counters_{};
  std::mutex mutex_;
  std::vector<std::string> heard_;
  std::unique_ptr<ImageListener> listener_;
};

TEST_F(ImageListening, PassesOnWhatIsSaidOfImagesAndCountsTheRest) {
  start();
  tell("no JSON");
  tell(of_image("image.update"));
  tell(enveloped(of_image("image.delete")));
  ASSERT_TRUE(eventually([&] { return counters_.image_hints_heard == 2; }));
  listener_->stop();
  EXPECT_THAT(heard(), ElementsAre(id, std::string(id) + " deleted"));
  EXPECT_EQ(counters_.image_hints_ignored, 1U);
}

TEST_F(ImageListening, ComesBackToABusThatWasAway) {
  stage_.up = false;
  start();
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::failed_connects) >= 3; }));
  stage_.set([](Stage& stage) { stage.up = true; });
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::connects) == 1; }));
  stage_.set([](Stage& stage) { stage.up = false; });
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::failed_connects) >= 5; }));
  stage_.set([](Stage& stage) { stage.up = true; });
  tell(of_image("image.delete"));
  ASSERT_TRUE(eventually([&] { return counters_.image_hints_heard == 1; }));
}

TEST_F(ImageListening, AStopWaitsForNothingThatTheBusDoes) {
  start();
  ASSERT_TRUE(eventually([&] { return stage_.get(&Stage::connects) == 1; }));
  listener_->stop();  // out of a wait() without end
  EXPECT_TRUE(stage_.get(&Stage::aborted));
}

/// Listens and takes no connections: further ones stay on their way.
class FullListener {
 public:
  FullListener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(socket_.get(), 0), 0);
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    for (auto& client : clients_) {
      client = base::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      static_cast<void>(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), size));
    }
  }
  std::uint16_t port() const { return port_; }
  /// Connections to it that are on their way, clients_' included.
  int on_their_way() const {
    std::ifstream table("/proc/net/tcp");
    char wanted[32];
    static_cast<void>(std::snprintf(wanted, sizeof wanted, "0100007F:%04X 02 ", port_));
    int count = 0;
    for (std::string line; std::getline(table, line);) count += line.contains(wanted) ? 1 : 0;
    return count;
  }

 private:
  base::Fd socket_;
  std::uint16_t port_ = 0;
  std::array<base::Fd, 4> clients_;
};

TEST(RabbitBroker, AnAbortEndsAConnectThatGetsNowhere) {
  const FullListener listener;
  const int before = listener.on_their_way();
  RabbitOptions options;
  options.url.hosts = {{.host = "127.0.0.1", .port = listener.port()}};
  options.connect_timeout = seconds(3600);
  const auto broker = make_rabbit_broker(options);
  auto connecting = std::async(std::launch::async, [&] { return broker->connect(); });
  ASSERT_TRUE(eventually([&] { return listener.on_their_way() > before; }));
  broker->abort();
  const auto connected = connecting.get();
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, Errc::cancelled) << connected.error().message;
}

TEST(RabbitBroker, AConnectThatGetsNowhereEndsAtItsTimeout) {
  const FullListener listener;
  RabbitOptions options;
  options.url.hosts = {{.host = "127.0.0.1", .port = listener.port()}};
  options.connect_timeout = seconds(1);
  const auto connected = make_rabbit_broker(options)->connect();
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, Errc::timeout) << connected.error().message;
}

}  // namespace
}  // namespace imagecache::events
