// A disk that is full, in the cache directory, on the backend, in the state directory: the error says so, nothing half
// done is left, and when there is space again it works.
#include "service/volumes.hpp"
#include "support/tiny_fs.hpp"

namespace imagecache::test {
namespace {

constexpr std::uint64_t mib = base::mib;

bool speaks_of_space(const std::string& text) {
  return text.find("No space left") != text.npos || text.find("fit neither") != text.npos ||
         text.find("no room") != text.npos || text.find("free") != text.npos || text.find("full") != text.npos;
}

TEST(VolumeSpace, AFullCacheDirectoryCostsNobodyAnImageOrAVolume) {
  TinyFs tiny;
  Daemon daemon({.cache_dir = tiny / "images"});
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  tiny.fill_up(4 * mib);
  const auto passed = daemon.image("GET", file_path(image));
  EXPECT_TRUE(passed.status == 200 && passed.complete && passed.body == raw) << "it is passed through";
  const auto id = daemon.create(image);
  EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
  EXPECT_TRUE(holds(daemon.volume_file(id), raw, 1));
  EXPECT_FALSE(daemon.service->images().is_cached(image));
  EXPECT_TRUE(files_in(tiny / "images/incomplete").empty());
  EXPECT_TRUE(files_in(daemon.directory / "state/conversion").empty());

  tiny.release();
  EXPECT_EQ(daemon.image("GET", file_path(image)).body, raw);
  while (daemon.counters().fills_in_flight != 0) std::this_thread::yield();
  EXPECT_TRUE(daemon.service->images().is_cached(image));
}

TEST(VolumeSpace, WhereAnImageFitsNowhereTheVolumeSaysSoAndNothingOfItStays) {
  TinyFs tiny;
  Daemon daemon(
      {.defaults = "image_conversion_dir = " + (tiny / "conversion").native() + "\n", .cache_dir = tiny / "images"});
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  tiny.fill_up(4 * mib);
  const std::uint64_t free_before = tiny.free_bytes();
  const auto id = daemon.create(image);
  EXPECT_EQ(daemon.settle(id), "error");
  EXPECT_TRUE(speaks_of_space(reason(daemon, id))) << reason(daemon, id);
  EXPECT_EQ(daemon.volume_files(), 0U);
  expect_no_image_volume(daemon);
  EXPECT_TRUE(files_in(tiny / "images/incomplete").empty());
  EXPECT_TRUE(files_in(tiny / "conversion").empty());
  EXPECT_GE(tiny.free_bytes() + mib / 2, free_before);

  tiny.release();
  const auto again = daemon.create(image);
  EXPECT_EQ(daemon.settle(again), "available") << reason(daemon, again);
  EXPECT_TRUE(holds(daemon.volume_file(again), raw, 1));
  EXPECT_TRUE(daemon.service->images().is_cached(image));
}

TEST(VolumeSpace, AFullBackendIsAnErrorInTheVolumeAndNothingOfItStays) {
  TinyFs tiny;
  Daemon daemon({.volume_dir = tiny / "volumes"});
  const std::string raw = sparse_disk();
  const std::string file = as_qcow2(raw);
  const auto image = daemon.origin.add({.content = Content::of(file), .disk_format = "qcow2"});
  tiny.fill_up(4 * mib);
  const std::uint64_t free_before = tiny.free_bytes();

  const auto id = daemon.create(image);
  EXPECT_EQ(daemon.settle(id), "error");
  EXPECT_TRUE(speaks_of_space(reason(daemon, id))) << reason(daemon, id);
  EXPECT_EQ(daemon.volume_files(), 0U);
  expect_no_image_volume(daemon);
  EXPECT_GE(tiny.free_bytes() + mib / 2, free_before);

  tiny.release();
  const auto again = daemon.create(image);
  EXPECT_EQ(daemon.settle(again), "available") << reason(daemon, again);
  EXPECT_TRUE(holds(daemon.volume_file(again), raw, 1));
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + id).status, 202);
  EXPECT_EQ(daemon.settle(id), "gone");
}

TEST(VolumeSpace, AFullBackendLetsTheLeastRecentlyUsedImageVolumeGo) {
  TinyFs tiny;
  Daemon daemon({.volume_dir = tiny / "volumes"});
  const std::string first = sparse_disk(1) + sparse_disk(3);  // of twice the size, for backends that copy
  const std::string second = sparse_disk(2);
  const auto old = daemon.create(add_image(daemon, first));
  ASSERT_EQ(daemon.settle(old), "available") << reason(daemon, old);
  EXPECT_EQ(daemon.volume("DELETE", "/volumes/" + old).status, 202);
  ASSERT_EQ(daemon.settle(old), "gone");
  tiny.fill_up(5 * mib);
  const auto image = add_image(daemon, second);
  const auto id = daemon.create(image);
  EXPECT_EQ(daemon.settle(id), "available") << reason(daemon, id);
  EXPECT_TRUE(holds(daemon.volume_file(id), second, 1));
  EXPECT_EQ(daemon.counters().image_volume_evictions, 1U);
  ASSERT_EQ(image_volumes(daemon).size(), 1U);
  EXPECT_EQ(image_volumes(daemon)[0]["image_id"], image);
}

TEST(VolumeSpace, AFullStateDirectoryRefusesCreatesAndGoesOnAnswering) {
  TinyFs tiny;
  Daemon daemon({.state_dir = tiny / "state"});
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  const auto before = daemon.create(image);
  ASSERT_EQ(daemon.settle(before), "available") << reason(daemon, before);
  tiny.fill_up();

  // The database's file has some room of its own; at the latest a few creates on it is used up.
  HttpAnswer refused;
  std::vector<std::string> made;
  for (int i = 0; i < 60 && refused.status == 0; ++i) {
    auto answer = create_request(daemon, image);
    if (answer.status != 202) {
      refused = std::move(answer);
    } else {
      made.push_back(parsed(answer)["volume"]["id"]);
    }
  }
  EXPECT_EQ(refused.status, 507) << refused.body;
  EXPECT_TRUE(speaks_of_space(refused.body)) << refused.body;
  EXPECT_EQ(daemon.show(before)["status"], "available") << "what is there can be read";
  EXPECT_EQ(daemon.image("GET", file_path(image)).body, raw);

  tiny.release();
  const auto after = daemon.create(image);
  EXPECT_EQ(daemon.settle(after), "available") << reason(daemon, after);
  EXPECT_TRUE(holds(daemon.volume_file(after), raw, 1));

  // What could not be written down at the time the next start settles.
  daemon.restart();
  std::size_t whole = 0;
  for (const auto& row : parsed(daemon.volume("GET", "/volumes/detail"))["volumes"]) {
    const std::string id = row["id"];
    EXPECT_TRUE(row["status"] == "available" || row["status"] == "error") << row.dump();
    EXPECT_EQ(std::filesystem::exists(daemon.volume_file(id)), row["status"] == "available") << id;
    if (row["status"] == "available") ++whole;
  }
  EXPECT_GE(whole, 2U);
  EXPECT_EQ(daemon.volume_files(), whole + image_volumes(daemon).size());
}

TEST(VolumeSpace, AStateDirectoryThatFillsUpDuringABuildLosesNoVolumeAndNoSpace) {
  TinyFs tiny;
  Daemon daemon({.state_dir = tiny / "state"});
  const std::string raw = sparse_disk();
  const auto image = add_image(daemon, raw);
  auto gate = std::make_shared<Gate>();
  daemon.origin.script(image, [&](ImageScript& s) { s.file.gates.push_back({raw.size() / 2, gate}); });
  const auto id = daemon.create(image);
  ASSERT_TRUE(gate->wait_arrived());
  tiny.fill_up();
  gate->open();
  const auto& counters = daemon.counters();
  while (counters.volumes_created + counters.volumes_failed == 0) std::this_thread::yield();
  tiny.release();
  daemon.restart();
  const std::string status = daemon.show(id)["status"];
  EXPECT_TRUE(status == "available" || status == "error") << status;
  EXPECT_EQ(std::filesystem::exists(daemon.volume_file(id)), status == "available");
  EXPECT_EQ(daemon.volume_files(), image_volumes(daemon).size() + (status == "available" ? 1U : 0U));
  EXPECT_EQ(in_use(daemon, internal_project, "volumes"), image_volumes(daemon).size());
  const auto again = daemon.create(image);
  EXPECT_EQ(daemon.settle(again), "available") << reason(daemon, again);
  EXPECT_TRUE(holds(daemon.volume_file(again), raw, 1));
}

}  // namespace
}  // namespace imagecache::test
