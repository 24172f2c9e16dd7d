// What the driver cinder says where no cinder-volume answers it as it should. What the two do together is tested from
// the other side, with Cinder's own code: integrations/cinder/tests/test_generic.py.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <fstream>
#include <thread>

#include "contract/random_image.hpp"
#include "contract/rig.hpp"

namespace imagecache::test {
namespace {

/// Answers each connection with the same bytes, and closes it.
class OneAnswer {
 public:
  OneAnswer(const fs::path& path, std::string answer)
      : listener_(::socket(AF_UNIX, SOCK_STREAM, 0)), answer_(std::move(answer)) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.native().copy(static_cast<char*>(address.sun_path), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    thread_ = std::jthread([this] { serve(); });
  }
  ~OneAnswer() { ::shutdown(listener_.get(), SHUT_RDWR); }
  OneAnswer(const OneAnswer&) = delete;
  OneAnswer& operator=(const OneAnswer&) = delete;

 private:
  void serve() const {
    for (;;) {
      const base::Fd client(::accept(listener_.get(), nullptr, nullptr));
      if (!client) return;
      std::array<char, 4096> request{};
      static_cast<void>(::recv(client.get(), request.data(), request.size(), 0));
      static_cast<void>(::send(client.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL));
    }
  }

  base::Fd listener_;
  std::string answer_;
  std::jthread thread_;
};

Result<std::unique_ptr<Driver>> make(const fs::path& directory) {
  return backends::find_driver("cinder")(MapOptions({{"image_cache_driver_dir", directory.native()}}));
}

Errc answered(const fs::path& directory, const std::string& answer) {
  fs::remove(directory / "contract.sock");
  const OneAnswer peer(directory / "contract.sock", answer);
  const Result<void> done = (*make(directory))->delete_volume(VolumeId{"volume-1"});
  EXPECT_FALSE(done);
  return done ? Errc::internal : done.error().code;
}

TEST(CinderDriver, NeedsADirectoryThatIsThere) {
  EXPECT_FALSE(backends::find_driver("cinder")(MapOptions({})));
  const auto missing = make("/nowhere/at/all");
  ASSERT_TRUE(missing);
  const auto set_up = (*missing)->check_for_setup_error();
  ASSERT_FALSE(set_up);
  EXPECT_NE(set_up.error().message.find("image_cache_driver_dir = /nowhere/at/all"), std::string::npos)
      << set_up.error().message;
}

TEST(CinderDriver, RemovesImagesThatACrashLeft) {
  const TestDirectory directory("TMPDIR");
  std::ofstream(directory.path() / "contract-volume-1.raw") << "left";
  std::ofstream(directory.path() / "other-volume-1.raw") << "another backend's";
  const auto driver = make(directory.path());
  ASSERT_TRUE(driver);
  EXPECT_TRUE((*driver)->check_for_setup_error());
  EXPECT_FALSE(fs::exists(directory.path() / "contract-volume-1.raw"));
  EXPECT_TRUE(fs::exists(directory.path() / "other-volume-1.raw"));
}

TEST(CinderDriver, SaysThatCinderVolumeIsNotThereAndLeavesNoImage) {
  const TestDirectory directory("TMPDIR");
  const auto driver = make(directory.path());
  ASSERT_TRUE(driver);
  const auto created = (*driver)->create_volume(VolumeId{"volume-1"}, base::gib);
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code, Errc::unavailable) << created.error().message;
  const RandomImage image({.virtual_size_bytes = 4 * base::mib});
  const auto copied = (*driver)->copy_image_to_volume(image, VolumeId{"volume-1"}, {});
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Errc::unavailable) << copied.error().message;
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(CinderDriver, BelievesNothingThatIsNoAnswer) {
  const TestDirectory directory("TMPDIR");
  const auto http = [](int status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  };
  EXPECT_EQ(answered(directory.path(), ""), Errc::unavailable);
  EXPECT_EQ(answered(directory.path(), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), Errc::unavailable);
  for (const auto* body : {"", "[]", "<html>", "{\"error\": 7}", "{\"error\": {\"code\": 7}}"})
    EXPECT_EQ(answered(directory.path(), http(500, body)), Errc::internal) << body;
  EXPECT_EQ(answered(directory.path(), http(200, "")), Errc::internal);
  EXPECT_EQ(answered(directory.path(), http(500, R"({"error": {"code": "corrupt", "message": "m"}})")), Errc::corrupt);
  EXPECT_EQ(answered(directory.path(), http(500, R"({"error": {"code": "new", "message": "m"}})")), Errc::internal);
}

}  // namespace
}  // namespace imagecache::test
