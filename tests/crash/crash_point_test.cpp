// The process ends at a named point, as in a power failure. Started again, it has kept every promise that it made, has
// settled what it had begun, and goes on as if nothing had been.
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "base/text.hpp"
#include "crash/world.hpp"

namespace imagecache::test {
namespace {

/// What is left to fetch of the image: of a fill that was cut off the rest, of one that was whole nothing.
enum class Refetch { all, rest, none };
struct Point {
  std::string at;
  Refetch refetch = Refetch::none;
  std::unique_ptr<Store> (*store)() = nullptr;  ///< where volumes are: nullptr on files
};
void PrintTo(const Point& point, std::ostream* out) {
  *out << point.at;
}

// Chosen by hand, as cinder-volume would.
constexpr auto hook_volume = "5b1c9a52-7a42-4e4c-93e8-1f5c3f1b7a11";

/// What a client of the daemon has asked for and been told before it died.
struct Told {
  bool image_whole = false;
  bool hook_created = false;
  bool hook_cancel_asked = false, hook_cancelled = false;
  std::string volume;  // by POST /volumes
  bool available = false;
  bool extend_asked = false, extended = false;
  bool evict_asked = false;
  bool delete_asked = false, delete_accepted = false;
};

class CrashPoint : public testing::TestWithParam<Point> {
 protected:
  CrashPoint() { image_ = world_.origin.add({.content = Content::of(disk().qcow2), .disk_format = "qcow2"}); }

  /// A life: each step goes by a few of the points, and the one under test ends it.
  void live() {
    if (!world_.daemon().has_served()) return;
    const auto whole = world_.image("GET", file_path(image_));
    told_.image_whole = whole.status == 200 && whole.complete;
    if (told_.image_whole) EXPECT_TRUE(whole.body == disk().qcow2) << "wrong bytes before the crash";
    if (!told_.image_whole) return;

    told_.hook_created = world_.hook_create(hook_volume, image_).status == 200;
    if (!told_.hook_created) return;

    told_.volume = world_.create(image_, 2);
    if (told_.volume.empty()) return;
    told_.available = world_.settle(told_.volume) == "available";
    if (!told_.available) return;

    told_.extend_asked = true;
    told_.extended =
        world_.volume("POST", "/volumes/" + told_.volume + "/action", {{"os-extend", {{"new_size", 3}}}}).status == 202;
    if (!told_.extended || world_.settle(told_.volume) != "available") return;

    const std::string image_volume = world_.image_volume();
    if (image_volume.empty()) return;
    told_.evict_asked = true;
    if (world_.status("DELETE", "/v1/image-volumes/" + image_volume).status != 204) return;

    told_.delete_asked = true;
    told_.delete_accepted = world_.volume("DELETE", "/volumes/" + told_.volume).status == 202;
    if (!told_.delete_accepted || world_.settle(told_.volume) != "gone") return;

    told_.hook_cancel_asked = true;
    told_.hook_cancelled = world_.hook("DELETE", hook_volume).status == 204;
  }

  void expect_kept() {
    if (told_.hook_created && !told_.hook_cancel_asked) EXPECT_EQ(world_.settle(hook_volume), "available");
    if (told_.hook_cancelled) EXPECT_EQ(world_.settle(hook_volume), "gone");
    if (told_.available && !told_.delete_asked) EXPECT_EQ(world_.settle(told_.volume), "available");
    if (told_.delete_accepted) EXPECT_EQ(world_.settle(told_.volume), "gone");
    if (told_.extended && !told_.delete_asked) {
      EXPECT_TRUE(world_.volume_holds(told_.volume, disk().raw, 3));
    }
  }

  void expect_image_from(Refetch refetch) {
    ASSERT_TRUE(world_.origin.wait_idle());
    const auto before = world_.origin.body_bytes(image_);
    const auto again = world_.image("GET", file_path(image_));
    EXPECT_EQ(again.status, 200);
    EXPECT_TRUE(again.complete && again.body == disk().qcow2) << "wrong bytes after the crash";
    ASSERT_TRUE(world_.origin.wait_idle());
    const auto fetched = world_.origin.body_bytes(image_) - before;
    if (refetch == Refetch::none) EXPECT_EQ(fetched, 0U);
    if (refetch == Refetch::rest) EXPECT_LT(fetched, disk().qcow2.size()) << "the part that was there was fetched anew";
    if (refetch == Refetch::rest) EXPECT_GT(fetched, 0U);
  }

  /// The same requests again, and everything taken away again: nothing is in the way.
  void live_again() {
    if (!told_.hook_cancel_asked) {
      const auto made = world_.hook_create(hook_volume, image_);
      EXPECT_EQ(made.status, 200) << made.body << world_.daemon().log();
      EXPECT_TRUE(world_.volume_holds(hook_volume, disk().raw, 1));
    }
    const std::string made = world_.create(image_, 2);
    EXPECT_EQ(world_.settle(made), "available") << world_.daemon().log();
    EXPECT_TRUE(world_.volume_holds(made, disk().raw, 2));
    world_.expect_settled(disk().raw);

    const json rows = json::parse(world_.volume("GET", "/volumes?all_tenants=1").body)["volumes"];
    for (const auto& row : rows) {
      const auto answer = world_.volume("DELETE", "/volumes/" + row["id"].get<std::string>());
      EXPECT_EQ(answer.status, 202) << answer.body;
    }
    for (const auto& row : rows) EXPECT_EQ(world_.settle(row["id"]), "gone");
    world_.store().expect_empty();
    world_.expect_settled(disk().raw);
  }

  World world_{GetParam().store};
  std::string image_;
  Told told_;
};

TEST_P(CrashPoint, LosesNoPromise) {
  ASSERT_FALSE(disk().qcow2.empty()) << "qemu-img is needed to make the image";
  world_.start(GetParam().at);
  live();
  const auto ended = world_.daemon().wait();
  ASSERT_TRUE(ended) << "it has not passed " << GetParam().at << "\n" << world_.daemon().log();
  ASSERT_TRUE(WIFSIGNALED(*ended) && WTERMSIG(*ended) == SIGKILL) << *ended << "\n" << world_.daemon().log();

  ASSERT_NO_FATAL_FAILURE(world_.start());
  world_.expect_settled(disk().raw);
  expect_kept();
  expect_image_from(GetParam().refetch);
  live_again();
  world_.expect_clean_stop();
}

std::string name_of(const testing::TestParamInfo<Point>& point) {
  std::string name = point.param.at;
  for (char& c : name) {
    if (c == '.' || c == ':') c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(ImageFile, CrashPoint,
                         testing::Values(Point{"fill.written", Refetch::rest}, Point{"fill.written:4", Refetch::rest},
                                         Point{"fill.verified"}, Point{"publish.synced"}, Point{"publish.renamed"},
                                         Point{"publish.recorded"}),
                         name_of);

// Again where the second or later pass is another story: of a clone, of an image-volume, of a warm create.
INSTANTIATE_TEST_SUITE_P(Volume, CrashPoint,
                         testing::Values(Point{"create.intent"}, Point{"build.created"}, Point{"convert.started"},
                                         Point{"convert.half"}, Point{"copy.half"}, Point{"copy.half:2"},
                                         Point{"build.copied"}, Point{"build.sealed"}, Point{"volume.linked"},
                                         Point{"clone.created"}, Point{"clone.cloned"}, Point{"volume.linked:2"},
                                         Point{"clone.done"}, Point{"create.intent:2"}, Point{"clone.created:2"},
                                         Point{"clone.cloned:2"}, Point{"volume.linked:3"}, Point{"clone.done:2"},
                                         Point{"evict.marked"}, Point{"delete.unlinked"}, Point{"delete.marked"},
                                         Point{"delete.unlinked:2"}, Point{"delete.marked:2"},
                                         Point{"delete.unlinked:3"}),
                         name_of);

// Every transaction of that life, before and after it is on the disk; the first is of the start, the last is of the
// hook's taking back.
std::vector<Point> every_commit() {
  std::vector<Point> points;
  for (int nth = 1; nth <= 20; ++nth) {
    for (const std::string side : {"before", "after"}) {
      points.push_back({.at = "catalog." + side + "_commit:" + std::to_string(nth),
                        .refetch = nth == 1 ? Refetch::all : Refetch::none});
    }
  }
  return points;
}
INSTANTIATE_TEST_SUITE_P(Catalog, CrashPoint, testing::ValuesIn(every_commit()), name_of);

#ifdef IMAGECACHE_BACKEND_RBD
// What is another story on a cluster: its clones are made and then grown, and what is deleted with clones goes to the
// trash.
std::vector<Point> on_rbd() {
  std::vector<Point> points;
  for (const char* const at :
       {"create.intent", "build.created", "copy.half", "build.copied", "build.sealed", "clone.cloned", "clone.done",
        "clone.cloned:2", "extend.extended", "clone.done:2", "extend.extended:2", "evict.marked", "delete.unsnapped",
        "delete.trashed", "delete.removed", "delete.removed:2"}) {
    points.push_back({.at = at, .store = rbd_store});
  }
  return points;
}
INSTANTIATE_TEST_SUITE_P(Rbd, CrashPoint, testing::ValuesIn(on_rbd()), name_of);
#endif

/// A create that is ahead of the origin's answer, killed at `at`. (On a file system with reflink.)
void crash_in_a_head_start(const std::string& at, bool was_there, bool is_there) {
  World world;
  const auto image = world.origin.add({.content = Content::of(disk().qcow2), .disk_format = "qcow2"});
  ASSERT_NO_FATAL_FAILURE(world.start(at));
  ASSERT_EQ(world.hook_create(hook_volume, image).status, 200);
  const auto answer = std::make_shared<Gate>();
  world.origin.script(image, [&](ImageScript& s) { s.file.hold_authorization = answer; });
  const std::string second = base::new_uuid();
  {
    std::jthread caller([&] { world.hook_create(second, image); });
    const auto ended = world.daemon().wait();
    answer->open();
    ASSERT_TRUE(ended && WIFSIGNALED(*ended) && WTERMSIG(*ended) == SIGKILL) << world.daemon().log();
  }
  EXPECT_EQ(world.has_volume(second), was_there);
  ASSERT_NO_FATAL_FAILURE(world.start());
  EXPECT_EQ(world.has_volume(second), is_there);
  const auto left = world.volume("GET", "/volumes/" + second);
  // Before its name its row may be there or not: they are made side by side.
  if (is_there || left.status != 404)
    EXPECT_EQ(json::parse(left.body)["volume"]["status"], is_there ? "available" : "error");
  world.expect_settled(disk().raw);
  EXPECT_EQ(world.hook_create(second, image).status, 200);
  EXPECT_TRUE(world.volume_holds(second, disk().raw, 1));
  world.expect_settled(disk().raw);
  world.expect_clean_stop();
}

TEST(CrashInAHeadStart, BeforeItsNameLeavesNothingOfItsVolume) {
  crash_in_a_head_start("clone.cloned:2", false, false);
}

/// Its caller may have been told of it.
TEST(CrashInAHeadStart, AfterItsNameLeavesTheVolumeWhole) {
  for (const char* const at : {"volume.linked:3", "clone.done:2"}) crash_in_a_head_start(at, true, true);
}

/// Or would have been, with nothing left to do but the name. (Of a crash of the whole machine:
/// file_power_cut_test.cpp.)
TEST(CrashInAHeadStart, OnceItsRowIsThereTheNextStartGivesItsName) {
  crash_in_a_head_start("clone.recorded", false, true);
}

TEST(CrashInAHeadStart, WithoutItsRowTheCloneIsGone) {
  World world;
  const auto image = world.origin.add({.content = Content::of(disk().qcow2), .disk_format = "qcow2"});
  ASSERT_NO_FATAL_FAILURE(world.start());
  ASSERT_EQ(world.hook_create(hook_volume, image).status, 200);
  world.expect_clean_stop();
  // What the power leaves of a clone that was quicker than its row.
  const auto volumes = world.directory / "volumes";
  const std::string name = "volume-" + base::new_uuid();
  std::filesystem::create_hard_link(volumes / ("volume-" + std::string(hook_volume)),
                                    volumes / ".cinder-image-cache" / ("whole." + name));
  ASSERT_NO_FATAL_FAILURE(world.start());
  EXPECT_FALSE(std::filesystem::exists(volumes / name));
  world.expect_settled(disk().raw);
  world.expect_clean_stop();
}

/// The directory is read while requests are answered; whoever dies over it has changed nothing.
TEST(CrashWhileTheDirectoryIsRead, LosesNothing) {
  World world;
  const auto image = world.origin.add({.content = Content::generated(1 << 20, 1)});
  ASSERT_NO_FATAL_FAILURE(world.start());
  ASSERT_TRUE(world.image("GET", file_path(image)).complete);
  ASSERT_TRUE(world.origin.wait_idle());
  world.daemon().kill();
  for (int life = 0; life < 2; ++life) {
    world.start("load.read");
    const auto ended = world.daemon().wait();
    ASSERT_TRUE(ended && WIFSIGNALED(*ended) && WTERMSIG(*ended) == SIGKILL) << world.daemon().log();
  }
  ASSERT_NO_FATAL_FAILURE(world.start());
  const auto again = world.image("GET", file_path(image));
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.body, Content::generated(1 << 20, 1).bytes());
  EXPECT_EQ(world.origin.body_bytes(image), 1U << 20) << "it was fetched again";
  const json listed = json::parse(world.status("GET", "/v1/images").body)["images"];
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0]["image_id"], image);
  world.expect_clean_stop();
}

}  // namespace
}  // namespace imagecache::test
