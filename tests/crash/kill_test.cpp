// kill -9 from outside, while many volumes are being made at once: at moments that the test chooses by what can be seen
// from there, one life after the other on the same directories.
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "base/text.hpp"
#include "crash/world.hpp"

namespace imagecache::test {
namespace {

constexpr int creates_at_once = 10;

/// Until so many volume files are there; bounded, because the creates end.
void files_appear(const World& world, std::size_t count, const std::vector<std::jthread>& creates,
                  const std::atomic<int>& answered) {
  while (world.store().names().size() < count && answered < static_cast<int>(creates.size())) std::this_thread::yield();
}

TEST(Kill, TenCreatesAtOnceLeaveNothingHalfDone) {
  World world;
  // Each life has an image of its own, so that each has a download, a build and clones to be killed in.
  std::vector<std::string> volumes_answered;
  for (unsigned life = 0; life < 6; ++life) {
    SCOPED_TRACE("life " + std::to_string(life));
    const auto image = world.origin.add({.content = Content::of(disk().qcow2),
                                         .disk_format = "qcow2",
                                         // Same bytes and another key: nothing of the life before is a hit.
                                         .json = {{"os_hash_value", "null"}, {"os_hash_algo", "null"}}});
    auto gate = std::make_shared<Gate>();
    world.origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({disk().qcow2.size() / 2, gate}); });
    ASSERT_NO_FATAL_FAILURE(world.start());
    const std::size_t files_before = world.store().names().size();

    std::atomic<int> answered = 0;
    std::mutex mutex;
    std::vector<std::string> made;
    std::vector<std::jthread> creates;
    creates.reserve(creates_at_once);
    for (int i = 0; i < creates_at_once; ++i) {
      creates.emplace_back([&, id = base::new_uuid()] {
        if (world.hook_create(id, image).status == 200) {
          const std::scoped_lock lock(mutex);
          made.push_back(id);
        }
        ++answered;
      });
    }
    ASSERT_TRUE(gate->wait_arrived());
    // The first dies in the download, the second when its image-volume has a name, the others after 2, 4… clones.
    if (life != 0) {
      gate->open();
      files_appear(world, files_before + 2 * life - 1, creates, answered);
    }
    world.daemon().kill();
    creates.clear();
    gate->open();

    ASSERT_NO_FATAL_FAILURE(world.start());
    world.expect_settled(disk().raw);
    volumes_answered.insert(volumes_answered.end(), made.begin(), made.end());
    for (const auto& id : volumes_answered) EXPECT_EQ(world.settle(id), "available") << id;
    EXPECT_EQ(world.hook_create(base::new_uuid(), image).status, 200) << world.daemon().log();
    world.expect_settled(disk().raw);
    world.daemon().kill();
  }
  ASSERT_NO_FATAL_FAILURE(world.start());
  world.expect_settled(disk().raw);
  world.expect_clean_stop();
}

constexpr std::size_t creates_of_each = 25;
constexpr std::size_t kills_of_each = 4;

/// One of two daemons, and its clients, who ask again until they have an answer.
class Side {
 public:
  Side() = default;
  ~Side() {
    wave_ = kills_of_each;  // a test that failed half way leaves nobody waiting
    wave_.notify_all();
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  void start() {
    ASSERT_NO_FATAL_FAILURE(world_.start());
    port_ = world_.daemon().ports().volume_api;
  }

  void begin_creates() {
    for (const char* name : {"one", "two"}) {
      images_.push_back(world_.origin.add({.content = Content::of(disk().qcow2),
                                           .name = name,
                                           .disk_format = "qcow2",
                                           .json = {{"os_hash_value", "null"}, {"os_hash_algo", "null"}}}));
    }
    for (std::size_t i = 0; i < creates_of_each; ++i) {
      // Each fifth comes by the other door, where an answer that is lost is lost.
      if (i % 5 == 4) {
        clients_.emplace_back([this, i] {
          wait_for_wave(i);
          post(images_[i % 2]);
        });
      } else {
        ids_.push_back(base::new_uuid());
        clients_.emplace_back([this, i, id = ids_.back()] {
          wait_for_wave(i);
          put_until_made(id, images_[i % 2], i % 5 == 3);
        });
      }
    }
  }

  /// The next of the creates, one part for each kill; returns when they have begun.
  void open_wave() {
    ++wave_;
    wave_.notify_all();
    const std::size_t begun = creates_of_each * wave_ / kills_of_each;
    while (begun_ < begun) std::this_thread::yield();
  }
  std::size_t made() const { return made_; }
  bool is_at_work() const { return at_work_ != 0; }

  void kill_and_start() {
    if (is_at_work()) ++kills_at_work_;
    port_ = 0;
    world_.daemon().kill();
    start();
  }

  void expect_all_well() {
    clients_.clear();
    EXPECT_GE(kills_at_work_, 2U) << "it was killed when nothing went on";
    EXPECT_EQ(begun_, creates_of_each);
    world_.expect_settled(disk().raw);
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      EXPECT_EQ(world_.settle(ids_[i]), gone_.contains(ids_[i]) ? "gone" : "available") << ids_[i];
    }
    EXPECT_EQ(gone_.size(), creates_of_each / 5);
    world_.expect_clean_stop();
  }

 private:
  static constexpr std::chrono::seconds patience{90};
  static constexpr std::chrono::milliseconds pause{10};  // of a client that was refused; nothing depends on it

  void wait_for_wave(std::size_t client) {
    for (std::size_t now = wave_; creates_of_each * now / kills_of_each <= client; now = wave_) wave_.wait(now);
    ++at_work_;
    ++begun_;
  }

  HttpAnswer ask(std::string_view method, const std::string& target, const json& body) const {
    const std::uint16_t port = port_;
    if (port == 0) return {};
    return http(port, method, target, {"Content-Type: application/json"}, body.is_null() ? "" : body.dump());
  }

  void put_until_made(const std::string& id, const std::string& image, bool takes_back) {
    const auto until = std::chrono::steady_clock::now() + patience;
    const json body{{"backend", "store1"}, {"name", "volume-" + id}, {"size_gb", 1}, {"image_id", image}};
    HttpAnswer answer;
    while (answer.status != 200 && std::chrono::steady_clock::now() < until) {
      answer = ask("PUT", "/v1/hook/volumes/" + id, body);
      if (answer.status != 200) std::this_thread::sleep_for(pause);
    }
    EXPECT_EQ(answer.status, 200) << answer.body;
    ++made_;
    while (takes_back && answer.status != 204 && std::chrono::steady_clock::now() < until) {
      answer = ask("DELETE", "/v1/hook/volumes/" + id, {});
      if (answer.status != 204) std::this_thread::sleep_for(pause);
    }
    if (takes_back) {
      EXPECT_EQ(answer.status, 204) << answer.body;
      const std::scoped_lock lock(mutex_);
      gone_.insert(id);
    }
    --at_work_;
  }

  void post(const std::string& image) {
    ask("POST", "/v3/admin/volumes", {{"volume", {{"size", 2}, {"imageRef", image}}}});
    --at_work_;
  }

  World world_;
  std::vector<std::string> images_;
  std::vector<std::string> ids_;
  std::atomic<std::uint16_t> port_ = 0;
  std::atomic<std::size_t> wave_ = 0, begun_ = 0, made_ = 0, at_work_ = 0;
  std::size_t kills_at_work_ = 0;
  std::mutex mutex_;
  std::set<std::string> gone_;  // protected by mutex_
  std::vector<std::jthread> clients_;
};

// No volume without a row, no row without a volume, no wrong byte, and quotas that add up: on both.
TEST(Kill, TwoDaemonsUnderFiftyCreatesKeepEveryVolumeAndEveryRow) {
  ASSERT_FALSE(disk().qcow2.empty()) << "qemu-img is needed to make the image";
  std::array<Side, 2> sides;
  for (Side& side : sides) ASSERT_NO_FATAL_FAILURE(side.start());
  for (Side& side : sides) side.begin_creates();
  for (std::size_t kill = 0; kill < kills_of_each; ++kill) {
    for (Side& side : sides) {
      const std::size_t before = side.made();
      side.open_wave();
      // At once, or when some have been made; the first time in the build of what they are cloned from.
      while (kill % 2 == 1 && side.made() < before + 2 && side.is_at_work()) std::this_thread::yield();
      ASSERT_NO_FATAL_FAILURE(side.kill_and_start());
    }
  }
  for (Side& side : sides) side.expect_all_well();
}

}  // namespace
}  // namespace imagecache::test
