"""FastAPI and uvicorn with nothing of ours: one endpoint that answers a constant."""

import sys

import uvicorn
from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/")
async def answer() -> dict[str, str]:
    return {"answer": "here"}


if __name__ == "__main__":
    # As cloud.serving starts it.
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
