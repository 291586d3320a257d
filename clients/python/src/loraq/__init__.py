"""Client and worker library for loraq, a durable queue for LoRA fine-tunes and batch inference."""

from .client import Client, new_job_id
from .wire import BrokerUnavailable, LoraqError, Message, ProtocolError

__all__ = ["BrokerUnavailable", "Client", "LoraqError", "Message", "ProtocolError", "new_job_id"]
__version__ = "0.1.0"
