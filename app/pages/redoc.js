"use strict";

Redoc.init(document.body.dataset.openapi, { hideDownloadButtons: true }, document.getElementById("redoc"));
