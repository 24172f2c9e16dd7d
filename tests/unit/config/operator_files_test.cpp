// Files as operators have them, read unchanged; and Cinder's rules of inheritance between sections.
#include <gmock/gmock.h>

#include "temp_files.hpp"

namespace imagecache::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class OperatorFiles : public TempFiles {};

// What Debian's cinder-common 21.3 has after its set-up questions, with its long comments cut and an image-volume cache
// as the administrator's guide configures it.
constexpr auto debian_cinder = R"([DEFAULT]

#
# From cinder
#

# The maximum number of items that a collection resource returns in a single
# response (integer value)
#osapi_max_limit = 1000

my_ip = 192.0.2.10
rootwrap_config = /etc/cinder/rootwrap.conf
api_paste_confg = /etc/cinder/api-paste.ini
iscsi_helper: lioadm
volume_group = cinder-volumes
verbose = True
auth_strategy = keystone
state_path = /var/lib/cinder
lock_path = /var/lock/cinder
transport_url = rabbit://openstack:pa$$word@192.0.2.1:5672/
enabled_backends = LVM, rbd-1,
glance_api_servers = http://$my_ip:9292, glance.example:9292
cinder_internal_tenant_project_id = b7455b8974bb4064ad247c8f375eae6c
cinder_internal_tenant_user_id = f46924c112a14c80ab0a24a613d95eef
quota_volumes = 100
debug = false
log_dir = /var/log/cinder
default_volume_type = lvm
trace_flags =

[backend]
[backend_defaults]
image_volume_cache_enabled = True
image_volume_cache_max_size_gb = 200
[barbican]
[database]
connection = mysql+pymysql://cinder:secret@localhost/cinder
max_retries = -1

[keystone_authtoken]
auth_url = http://localhost:5000
auth_type = password
password = "p$$ss;word"

[oslo_messaging_rabbit]
rpc_conn_pool_size = sixty

[lvm]
volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver
volume_group = pkgosvg0
target_helper = lioadm
target_ip_address = $my_ip
image_volume_cache_max_count = 50

[rbd-1]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = ceph
rbd_pool = volumes
rbd_secret_uuid = ${keystone_authtoken.auth_type}-$unheard_of
image_volume_cache_enabled = False
image_volume_cache_max_size_gb = 0
)";

// glance-api.conf of Debian's glance-common 25.1 with the cache turned on and two stores.
constexpr auto debian_glance = R"([DEFAULT]
enabled_backends = fast:rbd, slow:file
image_cache_dir = /var/lib/glance/image-cache
image_cache_driver = SQLite
image_cache_max_size = 53687091200
show_multiple_locations = true
transport_url = rabbit://guest:guest@localhost
[glance_store]
default_backend = fast
stores = file,http
[fast]
rbd_store_pool = images
[keystone_authtoken]
username = glance
[paste_deploy]
flavor = keystone+cachemanagement
)";

class Debian : public OperatorFiles {
 protected:
  Result<Config> load_both() const {
    using enum ConfigSource::Kind;
    return load(
        {.sources = {{file, write("cinder.conf", debian_cinder)}, {file, write("glance-api.conf", debian_glance)}},
         .environment = {}});
  }
};

TEST_F(Debian, CinderAndGlanceFilesAreReadUnchanged) {
  const auto config = load_both();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->get_string("DEFAULT", "image_cache_dir"), "/var/lib/glance/image-cache");
  EXPECT_EQ(config->get_string("DEFAULT", "image_cache_driver"), "sqlite");
  EXPECT_EQ(config->get_int("DEFAULT", "image_cache_max_size"), 53687091200);
  EXPECT_EQ(config->get_int("DEFAULT", "quota_volumes"), 100);
  EXPECT_EQ(config->get_string("DEFAULT", "cinder_internal_tenant_user_id"), "f46924c112a14c80ab0a24a613d95eef");
  EXPECT_THAT(config->origins(), ElementsAre("http://192.0.2.10:9292", "http://glance.example:9292"));
  EXPECT_EQ(config->log_file(), "/var/log/cinder/cinder-image-cache.log");
  EXPECT_THAT(config->warnings(), IsEmpty());
}

TEST_F(Debian, GlancesStoresAreNotTakenForCindersBackends) {
  const auto config = load_both();
  ASSERT_TRUE(config);
  EXPECT_THAT(config->get_list("DEFAULT", "enabled_backends"), ElementsAre("LVM", "rbd-1"));
}

TEST_F(Debian, ABackendsOptionComesFromItsSectionThenTheDefaultsThenTheCode) {
  const auto config = load_both();
  ASSERT_TRUE(config);
  const auto& lvm = config->enabled_backends().at(0);
  const auto& rbd = config->enabled_backends().at(1);
  EXPECT_EQ(lvm.section(), "LVM");  // as enabled_backends has it, and found as [lvm]
  EXPECT_EQ(lvm.volume_backend_name(), "LVM");
  EXPECT_TRUE(lvm.get_bool("image_volume_cache_enabled"));
  EXPECT_EQ(lvm.get_int("image_volume_cache_max_size_gb"), 200);
  EXPECT_EQ(lvm.get_int("image_volume_cache_max_count"), 50);
  EXPECT_EQ(rbd.volume_backend_name(), "ceph");
  EXPECT_FALSE(rbd.get_bool("image_volume_cache_enabled"));
  EXPECT_EQ(rbd.get_int("image_volume_cache_max_size_gb"), 0);
  EXPECT_EQ(rbd.get_int("image_volume_cache_max_count"), 0);
}

TEST_F(Debian, ADriverReadsAnyOptionOfItsSectionButNoneOfDefault) {
  const auto config = load_both();
  ASSERT_TRUE(config);
  const BackendOptions& lvm = config->enabled_backends().at(0);
  const BackendOptions& rbd = config->enabled_backends().at(1);
  EXPECT_EQ(lvm.get("volume_group"), "pkgosvg0");
  EXPECT_EQ(lvm.get("target_ip_address"), "192.0.2.10");
  EXPECT_EQ(lvm.get("image_volume_cache_enabled"), "True");
  EXPECT_EQ(lvm.get("lvm_type"), std::nullopt);
  EXPECT_EQ(rbd.get("volume_group"), std::nullopt);  // [DEFAULT] has it
  EXPECT_EQ(rbd.get("rbd_pool"), "volumes");
  EXPECT_EQ(rbd.get("rbd_secret_uuid"), "${keystone_authtoken.auth_type}-$unheard_of");
}

TEST_F(OperatorFiles, ABackendOptionInDefaultHasNoEffectAndIsWarnedOf) {
  const auto config =
      load_text("[DEFAULT]\nenabled_backends = a\nimage_volume_cache_enabled = true\n[a]\nvolume_driver = memory\n");
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->enabled_backends().at(0).get_bool("image_volume_cache_enabled"));
  EXPECT_THAT(config->warnings(),
              ::testing::Contains(HasSubstr("cinder.conf:3: [DEFAULT] image_volume_cache_enabled: has no effect")));
}

TEST_F(OperatorFiles, AnImageVolumeCacheWithoutItsTenantIsWarnedOf) {
  const auto config =
      load_text("[DEFAULT]\nenabled_backends = a\n[a]\nvolume_driver = memory\nimage_volume_cache_enabled = true\n");
  ASSERT_TRUE(config);
  EXPECT_THAT(config->warnings(), ::testing::Contains(HasSubstr("cinder_internal_tenant_project_id")));
}

TEST_F(OperatorFiles, ABackendNamedTwiceIsOneBackend) {
  const auto config = load_text("[DEFAULT]\nenabled_backends = a,A,a\n[a]\nvolume_driver = memory\n");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->enabled_backends().size(), 1U);
}

TEST_F(OperatorFiles, TwoFileBackendsCannotShareADirectory) {
  EXPECT_THAT(problems_of("[DEFAULT]\nenabled_backends = a,b\n[backend_defaults]\nvolume_driver = file\n"
                          "file_volume_dir = /v\n[a]\n[b]\n"),
              HasSubstr("cinder.conf:5: [b] file_volume_dir = /v: another backend has this directory"));
}

TEST_F(OperatorFiles, ASecretIsNeverInAMessage) {
  const auto message = problems_of("[keystone_authtoken]\n\n password = hunter2\nuser hunter3=hunter2\n[DEFAULT\n");
  EXPECT_THAT(message, HasSubstr("cinder.conf:3"));
  EXPECT_EQ(message.find("hunter2"), std::string::npos);
}

}  // namespace
}  // namespace imagecache::config
