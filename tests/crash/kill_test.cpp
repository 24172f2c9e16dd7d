// kill -9 from outside, while ten volumes are being made at once of one image: at moments that the test chooses by
// what can be seen from there, one life after the other on the same directories.
#include <atomic>
#include <mutex>
#include <thread>

#include "base/text.hpp"
#include "crash/world.hpp"

namespace imagecache::test {
namespace {

constexpr int creates_at_once = 10;

/// Until so many volume files are there; bounded, because the creates end.
void files_appear(const World& world, std::size_t count, const std::vector<std::jthread>& creates,
                  const std::atomic<int>& answered) {
  while (world.volume_files().size() < count && answered < static_cast<int>(creates.size())) std::this_thread::yield();
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
    const std::size_t files_before = world.volume_files().size();

    std::atomic<int> answered = 0;
    std::mutex mutex;
    std::vector<std::string> made;
    std::vector<std::jthread> creates;
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

}  // namespace
}  // namespace imagecache::test
