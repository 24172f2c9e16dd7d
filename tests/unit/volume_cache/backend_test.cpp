#include "volume_cache/backend.hpp"

#include "unit/volume_cache/rig.hpp"
#include "volume_cache/checks.hpp"
#include "volume_cache/keyed_turns.hpp"

namespace imagecache::volume_cache {
namespace {

class BackendTest : public ::testing::Test {
 protected:
  void make(const Capabilities& capabilities) {
    auto driver = std::make_unique<test::FaultDriver>(
        std::make_unique<backends::MemoryDriver>(backends::MemoryDriver::Options{}));
    driver->set_capabilities(capabilities);
    driver_ = driver.get();
    BackendOptions options;
    options.name = "memory";
    backend_ = std::make_unique<Backend>(options, std::move(driver));
    ASSERT_TRUE(backend_->check_for_setup_error());
  }
  template <class T>
  std::future<T> begin(base::Task<T> task) {
    return base::asio::co_spawn(io_.next(), std::move(task), base::asio::use_future);
  }

  base::IoThreads io_{2};
  test::FaultDriver* driver_ = nullptr;
  std::unique_ptr<Backend> backend_;
};

TEST_F(BackendTest, RefusesWhatADriverNeedNotExpect) {
  make({.clone = CloneSupport::none, .max_concurrency = 4});
  EXPECT_EQ(begin(backend_->create_volume({"../etc"}, base::gib)).get().error().code, Errc::invalid_argument);
  EXPECT_EQ(begin(backend_->create_volume({"a"}, 0)).get().error().code, Errc::invalid_argument);
  EXPECT_EQ(begin(backend_->create_volume({"a"}, 1000)).get().error().code, Errc::invalid_argument);
  const CloneSpec clone{.source = {"a"}, .target = {"b"}, .size_bytes = base::gib};
  EXPECT_EQ(begin(backend_->create_cloned_volume(clone)).get().error().code, Errc::unsupported);
  EXPECT_EQ(driver_->calls(Op::create), 0U);
}

TEST_F(BackendTest, TwoCallsNeverChangeOneVolumeAtOnce) {
  make({.clone = CloneSupport::copy_on_write, .max_concurrency = 4});
  driver_->hold(Op::create);
  auto first = begin(backend_->create_volume({"a"}, base::gib));
  ASSERT_TRUE(driver_->wait_until_held(Op::create));
  EXPECT_EQ(begin(backend_->delete_volume({"a"})).get().error().code, Errc::conflict);
  EXPECT_TRUE(begin(backend_->delete_volume({"b"})).get());
  driver_->release(Op::create);
  EXPECT_TRUE(first.get());
  EXPECT_TRUE(begin(backend_->delete_volume({"a"})).get());
}

TEST_F(BackendTest, OfADriverThatNamesACloneFirstWhatComesBeforeTheNameComesFirst) {
  for (const bool atomic : {false, true}) {
    make({.clone = CloneSupport::copy_on_write, .max_concurrency = 4, .atomic_clones = atomic});
    ASSERT_TRUE(begin(backend_->create_volume({"a"}, base::gib)).get());
    unsigned calls_then = 9;
    const auto refuse = [&]() -> Result<void> {
      calls_then = driver_->calls(Op::clone);
      return fail(Errc::conflict, "not yet");
    };
    const auto refused = begin(backend_->create_cloned_volume(
                                   {.source = {"a"}, .target = {"b"}, .size_bytes = base::gib, .before_named = refuse}))
                             .get();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "not yet");
    EXPECT_EQ(calls_then, atomic ? 1U : 0U);
    EXPECT_EQ(begin(backend_->list_volumes_async()).get()->size(), 1U);
  }
}

TEST_F(BackendTest, NeverPassesTheDriversConcurrency) {
  make({.clone = CloneSupport::copy_on_write, .max_concurrency = 3});
  driver_->hold(Op::create);
  std::vector<std::future<Result<void>>> calls;
  for (int i = 0; i < 10; ++i) calls.push_back(begin(backend_->create_volume({"v" + std::to_string(i)}, base::gib)));
  ASSERT_TRUE(driver_->wait_until_held(Op::create, 2));
  driver_->release(Op::create);
  for (auto& call : calls) EXPECT_TRUE(call.get());
  EXPECT_LE(driver_->most_in_flight(), 3U);
}

TEST_F(BackendTest, ClonesOfOneSourceGoOneByOneWhereTheDriverAsksForIt) {
  make({.clone = CloneSupport::copy_on_write, .max_concurrency = 8, .serialize_clones_of_one_source = true});
  ASSERT_TRUE(begin(backend_->create_volume({"a"}, base::gib)).get());
  ASSERT_TRUE(begin(backend_->create_volume({"b"}, base::gib)).get());
  driver_->hold(Op::clone);
  std::vector<std::future<Result<void>>> clones;
  for (int i = 0; i < 8; ++i) {
    for (const std::string source : {"a", "b"})
      clones.push_back(begin(backend_->create_cloned_volume(
          {.source = {source}, .target = {source + std::to_string(i)}, .size_bytes = base::gib})));
  }
  ASSERT_TRUE(driver_->wait_until_held(Op::clone, 2));
  driver_->release(Op::clone);
  for (auto& clone : clones) EXPECT_TRUE(clone.get());
  EXPECT_EQ(driver_->most_in_flight(Op::clone), 2U);
}

TEST_F(BackendTest, CopiesOfVolumesKeepNoCopyOfAnImageWaiting) {
  struct EmptyDisk final : ImageFile {
    std::uint64_t virtual_size_bytes() const override { return base::gib; }
    std::optional<int> raw_fd() const override { return std::nullopt; }
    Result<void> for_each_data(const Sink& /*sink*/, std::stop_token /*stop*/) const override { return {}; }
  } const disk;
  make({.clone = CloneSupport::copy_on_write, .max_concurrency = 4});
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(begin(backend_->create_volume({name}, base::gib)).get());
  driver_->hold(Op::copy);
  auto first = begin(backend_->copy_volume_to_volume(disk, {"a"}, {}));
  auto second = begin(backend_->copy_volume_to_volume(disk, {"b"}, {}));
  ASSERT_TRUE(driver_->wait_until_held(Op::copy, 1));
  auto image = begin(backend_->copy_image_to_volume(disk, {"c"}, {}));
  EXPECT_TRUE(driver_->wait_until_held(Op::copy, 2));
  driver_->release(Op::copy);
  for (auto* copy : {&first, &second, &image}) EXPECT_TRUE(copy->get());
  EXPECT_EQ(driver_->most_in_flight(Op::copy), 2U);
}

TEST(KeyedTurns, AreGivenInTheOrderOfAskingAndPassedOnWhenSomebodyLeaves) {
  base::IoThreads io(1);
  KeyedTurns turns;
  std::vector<int> order;
  auto first = io.run(turns.take("key"));
  const auto ask = [](KeyedTurns* from, std::vector<int>* to, int who, std::stop_token stop) -> base::Task<bool> {
    const auto turn = co_await from->take("key", stop);
    if (turn) to->push_back(who);
    co_return turn.has_value();
  };
  std::stop_source stop;
  std::vector<std::future<bool>> asked;
  for (int who = 0; who < 3; ++who) {
    asked.push_back(base::asio::co_spawn(
        io.next(), ask(&turns, &order, who, who == 1 ? stop.get_token() : std::stop_token()), base::asio::use_future));
    ASSERT_TRUE(eventually([&] { return turns.waiting("key") == static_cast<std::size_t>(who) + 1; }));
  }
  stop.request_stop();
  EXPECT_FALSE(asked[1].get());
  first.release();
  EXPECT_TRUE(asked[0].get());
  EXPECT_TRUE(asked[2].get());
  EXPECT_EQ(order, (std::vector{0, 2}));
}

TEST(Checks, NamesFollowTheTemplateBothWays) {
  const std::string id = "3f0f6c1e-0000-4000-8000-000000000001";
  EXPECT_EQ(fill_template("volume-%s", id), "volume-" + id);
  EXPECT_EQ(id_in_name("volume-%s", "volume-" + id), id);
  EXPECT_EQ(id_in_name("v-%s-x", "v-" + id + "-x"), id);
  EXPECT_FALSE(id_in_name("volume-%s", "volume-" + id + ".deleted"));
  EXPECT_FALSE(id_in_name("volume-%s", "volume-"));
}

TEST(Checks, ImageMetadataIsWhatCinderShows) {
  origin::ImageInfo image;
  image.id = "the-id";
  image.name = "debian";
  image.disk_format = "qcow2";
  image.size_bytes = 5;
  image.properties = {{"hw_disk_bus", "scsi"}, {"image_id", "a lie"}};
  const auto metadata = image_metadata(image);
  EXPECT_EQ(metadata.at("image_id"), "the-id");
  EXPECT_EQ(metadata.at("image_name"), "debian");
  EXPECT_EQ(metadata.at("hw_disk_bus"), "scsi");
  EXPECT_EQ(metadata.at("size"), "5");
  EXPECT_FALSE(metadata.contains("checksum"));
}

}  // namespace
}  // namespace imagecache::volume_cache
