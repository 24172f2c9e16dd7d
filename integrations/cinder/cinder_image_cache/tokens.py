"""The service token that Cinder sends to Glance beside its user's.

[service_user] send_service_user_token: with it a user's token that expires
while a volume is made stays good. What Cinder does for its own questions is
done for those that the service asks in its place.
"""

import typing

from keystoneauth1.loading import session as ks_session
from oslo_config import cfg
from oslo_log import log as logging

from cinder.image import glance  # noqa: F401, registers glance_*
from cinder import service_auth

LOG = logging.getLogger(__name__)
CONF = cfg.CONF


def service_token() -> typing.Optional[str]:
    """None where Cinder sends none. Keystone is asked once in its life."""
    if CONF.auth_strategy != 'keystone':
        return None
    try:
        plugin = service_auth.get_service_auth_plugin()
        if plugin is None:
            return None
        # Keystone is reached as Cinder reaches it for this purpose.
        session = ks_session.Session().load_from_options(
            insecure=CONF.glance_api_insecure,
            cacert=CONF.glance_ca_certificates_file,
            cert=CONF.glance_certfile, key=CONF.glance_keyfile,
            timeout=CONF.glance_request_timeout)
        token: typing.Optional[str] = plugin.get_token(session)
        return token
    except Exception as error:
        # The user's own may do; if not, Cinder's own way says what is wrong.
        LOG.warning('cinder-image-cache is asked without a service token: '
                    '%(error)s', {'error': error})
        return None
