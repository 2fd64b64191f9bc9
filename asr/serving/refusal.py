"""How the server says no: a status, and OpenAI's form of an error as JSON."""

import json


class Refusal(Exception):
    """A request that is not answered.

    Parameters
    ----------
    status
        Of HTTP.
    code
        Names the reason for programs.
    message
        Says what is wrong, and how to mend it.
    param
        The field of the request that is wrong, if it is one.

    Examples
    --------
    >>> Refusal(429, "queue_full", "try again").to_json()
    '{"error": {"message": "try again", "type": "rate_limit_error", "param": null, "code": "queue_full"}}'
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param

    @property
    def kind(self) -> str:
        """OpenAI's type of the error."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def to_json(self) -> str:
        """Return the body of the answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": "1"} if self.status in (429, 503) else {}


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """Return a refusal of a request that has a fault."""
    return Refusal(400, code, message, param)
